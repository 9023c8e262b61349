import { CountersignError } from './errors.js';
/** Values that wait for whoever iterates. Bounded: a consumer that falls behind gets an error instead of old values. */
export class Queue {
    #values = [];
    #waiting = [];
    /** Of a queue that has ended: the error that is still to be told, or null. */
    #end;
    #max;
    #release;
    /** `release` is called once, when nobody iterates any more. */
    constructor(max, release) {
        this.#max = max;
        this.#release = release;
    }
    push(value) {
        if (this.#end !== undefined)
            return;
        const take = this.#waiting.shift();
        if (take)
            take({ value, done: false });
        else if (this.#values.push(value) > this.#max) {
            this.#values = [];
            this.end(new CountersignError('slow_consumer', `more than ${this.#max} values were not taken`));
        }
    }
    /** What is queued is still given out, then the error, once, and the end. */
    end(error = null) {
        if (this.#end !== undefined)
            return;
        this.#end = error;
        this.#release();
        for (const take of this.#waiting.splice(0))
            take(this.next());
    }
    async next() {
        if (this.#values.length > 0)
            return { value: this.#values.shift(), done: false };
        const error = this.#end;
        if (error === undefined)
            return new Promise((resolve) => this.#waiting.push(resolve));
        this.#end = null;
        if (error)
            throw error;
        return { value: undefined, done: true };
    }
    return() {
        this.#values = [];
        this.end();
        this.#end = null;
        return this.next();
    }
    [Symbol.asyncIterator]() {
        return this;
    }
}
