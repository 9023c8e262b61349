import type { CountersignError } from './errors.js';
import type { Publication } from './wire.js';
/** Called with what was published: the JSON value, or base64 text of a binary publication. */
export type Handler = (data: unknown, publication: Publication) => void;
/** A subscription that outlives its socket. Iterate over it, or hand `subscribe` a handler, or both. */
export declare class Subscription implements AsyncIterable<unknown> {
    #private;
    readonly channel: string;
    /** Settled by the node's first answer. */
    readonly accepted: Promise<void>;
    /** @internal Has the node answered, or will it not any more? */
    isSettled: boolean;
    /** Made by `subscribe`. */
    constructor(channel: string, queueMax: number, end: () => Promise<void>);
    /** Calls back with every publication from now on; call the result to end that. */
    on(handler: Handler): () => void;
    /** Everything published from now on. Falling behind ends with `slow_consumer`. */
    [Symbol.asyncIterator](): AsyncIterableIterator<unknown>;
    /** The same as the connection's `unsubscribe`. */
    unsubscribe(): Promise<void>;
    /** @internal */
    accept(): void;
    /** @internal */
    deliver(publication: Publication, call: (work: () => void) => void): void;
    /** @internal */
    finish(error: CountersignError | null): void;
}
