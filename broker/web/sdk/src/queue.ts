import { CountersignError } from './errors.js'

/** Values that wait for whoever iterates. Bounded: a consumer that falls behind gets an error instead of old values. */
export class Queue<T> implements AsyncIterableIterator<T> {
  #values: T[] = []
  #waiting: Array<(result: IteratorResult<T> | Promise<IteratorResult<T>>) => void> = []
  /** Of a queue that has ended: the error that is still to be told, or null. */
  #end: Error | null | undefined
  readonly #max: number
  readonly #release: () => void

  /** `release` is called once, when nobody iterates any more. */
  constructor(max: number, release: () => void) {
    this.#max = max
    this.#release = release
  }

  push(value: T): void {
    if (this.#end !== undefined) return
    const take = this.#waiting.shift()
    if (take) take({ value, done: false })
    else if (this.#values.push(value) > this.#max) {
      this.#values = []
      this.end(new CountersignError('slow_consumer', `more than ${this.#max} values were not taken`))
    }
  }

  /** What is queued is still given out, then the error, once, and the end. */
  end(error: Error | null = null): void {
    if (this.#end !== undefined) return
    this.#end = error
    this.#release()
    for (const take of this.#waiting.splice(0)) take(this.next())
  }

  async next(): Promise<IteratorResult<T>> {
    if (this.#values.length > 0) return { value: this.#values.shift() as T, done: false }
    const error = this.#end
    if (error === undefined) return new Promise((resolve) => this.#waiting.push(resolve))
    this.#end = null
    if (error) throw error
    return { value: undefined, done: true }
  }

  return(): Promise<IteratorResult<T>> {
    this.#values = []
    this.end()
    this.#end = null
    return this.next()
  }

  [Symbol.asyncIterator](): this {
    return this
  }
}
