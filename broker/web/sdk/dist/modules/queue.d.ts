/** Values that wait for whoever iterates. Bounded: a consumer that falls behind gets an error instead of old values. */
export declare class Queue<T> implements AsyncIterableIterator<T> {
    #private;
    /** `release` is called once, when nobody iterates any more. */
    constructor(max: number, release: () => void);
    push(value: T): void;
    /** What is queued is still given out, then the error, once, and the end. */
    end(error?: Error | null): void;
    next(): Promise<IteratorResult<T>>;
    return(): Promise<IteratorResult<T>>;
    [Symbol.asyncIterator](): this;
}
