import { CountersignError } from './errors.js';
/** Values that wait for whoever iterates. Bounded: a consumer that falls behind gets an error instead of old values. */
export class Queue {
    #values = [];
    #waiting = [];
    #end = null;
    #max;
    #release;
    /** `release` is called once, when nobody iterates any more. */
    constructor(max, release) {
        this.#max = max;
        this.#release = release;
    }
    push(value) {
        if (this.#end)
            return;
        const waiting = this.#waiting.shift();
        if (waiting)
            return waiting.resolve({ value, done: false });
        if (this.#values.length < this.#max) {
            this.#values.push(value);
            return;
        }
        this.#values = [];
        this.end(new CountersignError('slow_consumer', `more than ${this.#max} values were not taken`));
    }
    /** What is queued is still given out, then the end or the error. */
    end(error = null) {
        if (this.#end)
            return;
        this.#end = { error };
        this.#release();
        const [first, ...rest] = this.#waiting.splice(0);
        if (error) {
            first?.reject(error);
            if (first)
                this.#end = { error: null };
        }
        else
            first?.resolve({ value: undefined, done: true });
        for (const { resolve } of rest)
            resolve({ value: undefined, done: true });
    }
    next() {
        if (this.#values.length > 0)
            return Promise.resolve({ value: this.#values.shift(), done: false });
        if (!this.#end)
            return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
        const { error } = this.#end;
        this.#end = { error: null };
        return error ? Promise.reject(error) : Promise.resolve({ value: undefined, done: true });
    }
    return() {
        this.#values = [];
        this.end();
        return Promise.resolve({ value: undefined, done: true });
    }
    [Symbol.asyncIterator]() {
        return this;
    }
}
