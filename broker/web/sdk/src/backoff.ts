// How long to wait before connecting again.

/** Pauses between attempts, in milliseconds. */
export interface BackoffOptions {
  /** Of the first attempt. Default: 500. */
  first?: number
  /** Of any attempt. Default: 30,000. */
  max?: number
}

/** Pauses that double, each drawn from the upper half of its range, so that many clients do not come at once. */
export class Backoff {
  #attempts = 0
  readonly #options: BackoffOptions
  readonly #random: () => number

  constructor(options: BackoffOptions, random: () => number) {
    this.#options = options
    this.#random = random
  }

  /** The next pause. A hint of the node is waited for in full, with a tenth of jitter: it is spread already. */
  next(hint: number | null): number {
    const { first = 500, max = 30_000 } = this.#options
    const range = Math.min(max, first * 2 ** Math.min(this.#attempts++, 30))
    return hint === null ? range * (0.5 + this.#random() / 2) : hint * (1 + this.#random() / 10)
  }

  /** A connection lasted: the next pause is the first again. */
  reset(): void {
    this.#attempts = 0
  }
}
