import { Queue } from './queue.js';
/** A subscription that outlives its socket. Iterate over it, or hand `subscribe` a handler, or both. */
export class Subscription {
    channel;
    /** Settled by the node's first answer. */
    accepted;
    #handlers = new Set();
    #queues = new Set();
    #queueMax;
    #end;
    #ended;
    /** @internal Has the node answered, or will it not any more? */
    isSettled = false;
    #settle;
    /** Made by `subscribe`. */
    constructor(channel, queueMax, end) {
        this.channel = channel;
        this.#queueMax = queueMax;
        this.#end = end;
        this.accepted = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
        // Whoever waits for it hears of it; whoever does not is no unhandled rejection.
        this.accepted.catch(() => { });
    }
    /** Calls back with every publication from now on; call the result to end that. */
    on(handler) {
        this.#handlers.add(handler);
        return () => void this.#handlers.delete(handler);
    }
    /** Everything published from now on. Falling behind ends with `slow_consumer`. */
    [Symbol.asyncIterator]() {
        const queue = new Queue(this.#queueMax, () => void this.#queues.delete(queue));
        this.#queues.add(queue);
        if (this.#ended !== undefined)
            queue.end(this.#ended);
        return queue;
    }
    /** The same as the connection's `unsubscribe`. */
    unsubscribe() {
        return this.#end();
    }
    /** @internal */
    accept() {
        this.isSettled = true;
        this.#settle.resolve();
    }
    /** @internal */
    deliver(publication, call) {
        const data = publication.data ?? publication.binary;
        for (const handler of this.#handlers)
            call(() => handler(data, publication));
        for (const queue of this.#queues)
            queue.push(data);
    }
    /** @internal */
    finish(error) {
        this.#ended = error;
        if (error)
            this.#settle.reject(error);
        this.accept();
        for (const queue of [...this.#queues])
            queue.end(error);
    }
}
