// One socket, from its first frame to its close: requests and their replies, and the answer to the challenge. It neither
// reconnects nor remembers; the connection does.

import { answer } from './answer.js'
import type { Form } from './answer.js'
import { encode } from './base64url.js'
import { CountersignError } from './errors.js'
import { pageKey } from './key.js'
import type { PageKey } from './key.js'
import { isReply, parse } from './wire.js'
import type { Challenge, Mode, Push, Reply, Ticket, Welcome } from './wire.js'

/** What is needed of a socket: a browser's, or one that another platform supplies. */
export interface SocketLike {
  readonly readyState: number
  onmessage: ((event: { data: unknown }) => void) | null
  onclose: ((event: { code: number; reason: string }) => void) | null
  onerror: ((event: unknown) => void) | null
  send(text: string): void
  close(code?: number, reason?: string): void
}

/** What a session tells the connection. */
export interface SessionListener {
  /** Something was pushed, or said: for events. */
  heard(name: string, value: unknown): void
  /** The challenge is answered, or there was none: requests may be made. */
  ready(): void
  /** This node and this client cannot come together; the socket is being closed. */
  failed(error: CountersignError): void
  /** The last call. */
  closed(code: number, reason: string): void
}

/** How a socket ended. */
export interface Closed {
  code: number
  reason: string
}

/** What a session needs to know. */
export interface SessionSettings {
  /** The page's origin, or the empty text outside of pages. */
  origin: string
  /** The node's, as it was dialed. */
  host: string
  mode?: Mode
  key?: CryptoKeyPair
  pins?: string[]
  forms: Form[]
  files?: string
  fetch: typeof fetch
  requestTimeoutMs: number
}

interface Pending {
  resolve(ok: Record<string, unknown>): void
  reject(error: CountersignError): void
  timer: ReturnType<typeof setTimeout>
}

const OPEN = 1
const PENDING_MAX = 1024

export class Session {
  id: string | null = null
  expiresAt: number | null = null
  /** Requests can be made. */
  isReady = false
  isVerified = false
  /** What calls must show. It rises, and never falls. */
  mode: Mode
  key: PageKey | null = null
  /** The newest. */
  ticket: Ticket | null = null
  /** Resolves with the close. */
  readonly ended: Promise<Closed>
  #end!: (closed: Closed) => void
  readonly #socket: SocketLike
  readonly #listener: SessionListener
  readonly #settings: SessionSettings
  readonly #nonce = crypto.getRandomValues(new Uint8Array(32))
  readonly #pending = new Map<number, Pending>()
  #asked = 0
  #timer: ReturnType<typeof setTimeout> | undefined
  #hello = ''
  #epoch = -1
  #ticketEnds = 0

  constructor(socket: SocketLike, settings: SessionSettings, listener: SessionListener) {
    this.#socket = socket
    this.#settings = settings
    this.mode = settings.mode ?? 'bearer'
    this.#listener = listener
    this.ended = new Promise((resolve) => (this.#end = resolve))
    socket.onmessage = ({ data }) => this.#take(data)
    socket.onclose = ({ code, reason }) => this.#closed(code, reason)
    // What follows an error is a close, and that is heard: at once, and with its code. There are sockets that say no more
    // than this of a handshake that was refused.
    socket.onerror = () => this.#within(0)
    this.#within(settings.requestTimeoutMs)
  }

  /** Is there something to show for a call? Counted from when a ticket came: nobody's clock has to be right. */
  get canCall(): boolean {
    return this.isReady && (this.mode === 'bearer' || Date.now() < this.#ticketEnds)
  }

  /** Sends a request; its `ok`. */
  async request(action: string, members: object = {}): Promise<Record<string, unknown>> {
    if (this.#socket.readyState !== OPEN) throw new CountersignError('closed', 'the socket is closed')
    if (this.#pending.size >= PENDING_MAX) throw new CountersignError('overloaded', 'too many requests wait')
    const id = (this.#asked += 1)
    // What cannot be written or sent throws here, and leaves nothing that waits.
    const text = JSON.stringify({ id, action, ...members })
    if (action === 'hello') this.#hello ||= text
    this.#listener.heard('frame', { sent: true, text })
    this.#socket.send(text)
    return new Promise((resolve, reject) => {
      const late = (): void => this.#settle(id)?.reject(new CountersignError('timeout', `no reply to ${action}`))
      this.#pending.set(id, { resolve, reject, timer: setTimeout(late, this.#settings.requestTimeoutMs) })
    })
  }

  close(): void {
    // Nor is the end waited for without end, of a node that is not there to agree to it.
    this.#within(this.#settings.requestTimeoutMs)
    this.#socket.close(1000)
  }

  /** Nobody is there any more: as good as lost, and not waited for. */
  abandon(): void {
    const socket = this.#socket
    socket.onmessage = socket.onclose = null
    // Some throw the errors that nobody hears.
    socket.onerror = () => {}
    this.close()
    this.#closed(1006, 'no reply')
  }

  /** Until it is ready, silence is not waited for longer than this. */
  #within(ms: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.abandon(), ms)
  }

  #settle(id: number): Pending | undefined {
    const pending = this.#pending.get(id)
    this.#pending.delete(id)
    clearTimeout(pending?.timer)
    return pending
  }

  #take(data: unknown): void {
    this.#listener.heard('frame', { sent: false, text: data })
    if (!this.isReady) this.#within(this.#settings.requestTimeoutMs)
    const frame = parse(data)
    if (frame === null) return this.#fail(new CountersignError('protocol', 'no frame of this protocol'))
    if (isReply(frame)) return this.#reply(frame)
    const { event } = frame
    if (event === 'welcome') this.id = (frame as unknown as Welcome).connectionId
    if (event === 'ticket') {
      this.ticket = frame as unknown as Ticket
      this.#ticketEnds = Date.now() + this.ticket.expiresInMs
    }
    this.#listener.heard(event, frame)
    if (event === 'welcome') void this.#greet(frame as unknown as Welcome)
    if (event === 'challenge') void this.#answer(frame as unknown as Challenge)
    if (event === 'verified') this.#verified(frame)
    if (event === 'challenge_failed') this.#fail(new CountersignError('challenge_failed', 'the challenge was not passed'))
  }

  #reply({ id, ok, error }: Reply): void {
    const pending = this.#settle(id)
    if (ok) pending?.resolve(ok)
    else if (error) pending?.reject(new CountersignError(error.code, error.message))
  }

  async #greet({ challenge, expiresAt }: Welcome): Promise<void> {
    const { forms, mode, key } = this.#settings
    this.expiresAt = expiresAt
    await this.#insist(async () => {
      if (challenge === 'off') {
        if (this.mode !== 'bearer') throw new Error('there are no tickets')
        return this.#ready()
      }
      this.key = await pageKey(key)
      await this.request('hello', { forms: forms.map(({ name }) => name), nonce: encode(this.#nonce), key: encode(this.key.point), mode })
    })
  }

  /** Answers at once: no timer that a background tab would delay. Later epochs are answered as the first one was. */
  async #answer(challenge: Challenge): Promise<void> {
    await this.#insist(async () => {
      const { id, key, mode } = this
      if (!key || challenge.epoch <= this.#epoch) throw new Error('unexpected challenge')
      this.#epoch = challenge.epoch
      this.#within(this.#settings.requestTimeoutMs + challenge.answerMs)
      const members = await answer(challenge, { ...this.#settings, mode, key, hello: this.#hello, clientNonce: this.#nonce, connectionId: id! })
      this.mode = challenge.mode
      this.#listener.heard('answer', members)
      await this.request('answer', members)
    })
  }

  #verified({ connectionId }: Push): void {
    if (connectionId !== this.id) return this.#fail(new CountersignError('protocol', 'that is another connection'))
    this.isVerified = true
    this.#ready()
  }

  #ready(): void {
    clearTimeout(this.#timer)
    if (this.isReady) return
    this.isReady = true
    this.#listener.ready()
  }

  /** A step without which there is nothing to be had here. That the socket closed, its close will tell; silence has its own end. */
  async #insist(step: () => Promise<unknown>): Promise<void> {
    try {
      await step()
    } catch (error) {
      const { code, message } = Object(error)
      if (code !== 'closed' && code !== 'timeout') this.#fail(error instanceof CountersignError ? error : new CountersignError('challenge_unsupported', message))
    }
  }

  #fail(error: CountersignError): void {
    this.#listener.failed(error)
    this.close()
  }

  #closed(code: number, reason: string): void {
    this.isReady = false
    clearTimeout(this.#timer)
    for (const id of [...this.#pending.keys()]) {
      this.#settle(id)?.reject(new CountersignError('closed', `closed: ${code} ${reason}`, code))
    }
    this.#listener.closed(code, reason)
    this.#end({ code, reason })
  }
}
