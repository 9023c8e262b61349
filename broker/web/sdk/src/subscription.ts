import { Queue } from './queue.js'
import type { CountersignError } from './errors.js'
import type { Publication } from './wire.js'

/** Called with what was published: the JSON value, or base64 text of a binary publication. */
export type Handler = (data: unknown, publication: Publication) => void

/** A subscription that outlives its socket. Iterate over it, or hand `subscribe` a handler, or both. */
export class Subscription implements AsyncIterable<unknown> {
  readonly channel: string
  /** Settled by the node's first answer. */
  readonly accepted: Promise<void>
  readonly #handlers = new Set<Handler>()
  readonly #queues = new Set<Queue<unknown>>()
  readonly #queueMax: number
  readonly #end: () => Promise<void>
  #ended: CountersignError | null | undefined
  /** @internal Has the node answered, or will it not any more? */
  isSettled = false
  #settle!: { resolve(): void; reject(error: Error): void }

  /** Made by `subscribe`. */
  constructor(channel: string, queueMax: number, end: () => Promise<void>) {
    this.channel = channel
    this.#queueMax = queueMax
    this.#end = end
    this.accepted = new Promise((resolve, reject) => (this.#settle = { resolve, reject }))
    // Whoever waits for it hears of it; whoever does not is no unhandled rejection.
    this.accepted.catch(() => {})
  }

  /** Calls back with every publication from now on; call the result to end that. */
  on(handler: Handler): () => void {
    this.#handlers.add(handler)
    return () => void this.#handlers.delete(handler)
  }

  /** Everything published from now on. Falling behind ends with `slow_consumer`. */
  [Symbol.asyncIterator](): AsyncIterableIterator<unknown> {
    const queue: Queue<unknown> = new Queue(this.#queueMax, () => void this.#queues.delete(queue))
    this.#queues.add(queue)
    if (this.#ended !== undefined) queue.end(this.#ended)
    return queue
  }

  /** The same as the connection's `unsubscribe`. */
  unsubscribe(): Promise<void> {
    return this.#end()
  }

  /** @internal */
  accept(): void {
    this.isSettled = true
    this.#settle.resolve()
  }

  /** @internal */
  deliver(publication: Publication, call: (work: () => void) => void): void {
    const data = publication.data ?? publication.binary
    for (const handler of this.#handlers) call(() => handler(data, publication))
    for (const queue of this.#queues) queue.push(data)
  }

  /** @internal */
  finish(error: CountersignError | null): void {
    this.#ended = error
    if (error) this.#settle.reject(error)
    this.accept()
    for (const queue of [...this.#queues]) queue.end(error)
  }
}
