/** Pauses between attempts, in milliseconds. */
export interface BackoffOptions {
    /** Of the first attempt. Default: 500. */
    first?: number;
    /** Of any attempt. Default: 30,000. */
    max?: number;
}
/** Pauses that double, each drawn from the upper half of its range, so that many clients do not come at once. */
export declare class Backoff {
    #private;
    constructor(options: BackoffOptions, random: () => number);
    /** The next pause. A hint of the node is waited for in full, with a tenth of jitter: it is spread already. */
    next(hint: number | null): number;
    /** A connection lasted: the next pause is the first again. */
    reset(): void;
}
