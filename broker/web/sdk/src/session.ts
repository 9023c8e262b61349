// One socket, from its first frame to its close: requests and their replies, and the answer to the challenge. It neither
// reconnects nor remembers; the connection does.

import { decode, encode } from './base64url.js'
import { CountersignError } from './errors.js'
import { evaluate } from './vm.js'
import { isReply, parse } from './wire.js'
import type { Challenge, Push, Reply, Welcome } from './wire.js'

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
  /** Resolves with the close. */
  readonly ended: Promise<Closed>
  #end!: (closed: Closed) => void
  readonly #socket: SocketLike
  readonly #listener: SessionListener
  readonly #settings: SessionSettings
  readonly #nonce = crypto.getRandomValues(new Uint8Array(32))
  readonly #pending = new Map<number, Pending>()
  #asked = 0

  constructor(socket: SocketLike, settings: SessionSettings, listener: SessionListener) {
    this.#socket = socket
    this.#settings = settings
    this.#listener = listener
    this.ended = new Promise((resolve) => (this.#end = resolve))
    socket.onmessage = ({ data }) => this.#take(data)
    socket.onclose = ({ code, reason }) => this.#closed(code, reason)
    // What follows an error is a close, and that is heard.
    socket.onerror = () => {}
  }

  /** Sends a request; its `ok`. */
  request(action: string, members: object = {}): Promise<Record<string, unknown>> {
    if (this.#socket.readyState !== OPEN) return Promise.reject(new CountersignError('closed', 'the socket is closed'))
    if (this.#pending.size >= PENDING_MAX) return Promise.reject(new CountersignError('overloaded', 'too many requests wait for replies'))
    const id = (this.#asked += 1)
    return new Promise((resolve, reject) => {
      const late = (): void => this.#settle(id)?.reject(new CountersignError('timeout', `no reply to ${action}`))
      this.#pending.set(id, { resolve, reject, timer: setTimeout(late, this.#settings.requestTimeoutMs) })
      const text = JSON.stringify({ id, action, ...members })
      this.#listener.heard('frame', { sent: true, text })
      this.#socket.send(text)
    })
  }

  close(): void {
    this.#socket.close(1000)
  }

  #settle(id: number): Pending | undefined {
    const pending = this.#pending.get(id)
    this.#pending.delete(id)
    clearTimeout(pending?.timer)
    return pending
  }

  #take(data: unknown): void {
    this.#listener.heard('frame', { sent: false, text: data })
    const frame = parse(data)
    if (frame === null) return this.#fail(new CountersignError('protocol', 'the node sent what is no frame of this protocol'))
    if (isReply(frame)) return this.#reply(frame)
    const welcome = frame.event === 'welcome' ? (frame as unknown as Welcome) : null
    if (welcome) this.id = welcome.connectionId
    this.#listener.heard(frame.event, frame)
    if (welcome) this.#greet(welcome)
    if (frame.event === 'challenge') this.#answer(frame as unknown as Challenge)
    if (frame.event === 'verified') this.#verified(frame)
    if (frame.event === 'challenge_failed') this.#fail(new CountersignError('challenge_failed', 'the challenge was not passed'))
  }

  #reply({ id, ok, error }: Reply): void {
    const pending = this.#settle(id)
    if (ok) pending?.resolve(ok)
    else if (error) pending?.reject(new CountersignError(error.code, error.message))
  }

  #greet({ challenge, expiresAt }: Welcome): void {
    this.expiresAt = expiresAt
    if (challenge === 'off') return this.#ready()
    this.#insist(this.request('hello', { forms: ['vm'], nonce: encode(this.#nonce) }))
  }

  /** Runs the program at once: no timer that a background tab would delay. One that cannot be run is a failure. */
  #answer({ challenge, epoch, form, nonce, program }: Challenge): void {
    const { origin } = this.#settings
    const [bytes, serverNonce, connection] = [program, nonce, this.id ?? ''].map(decode)
    if (form !== 'vm' || !bytes || !serverNonce || !connection) {
      return this.#fail(new CountersignError('protocol', 'the node sent a challenge that this client did not offer to run'))
    }
    try {
      const lanes = evaluate(bytes, { serverNonce, clientNonce: this.#nonce, connection, thumbprint: null, origin })
      const answer = { challenge, epoch, origin, lanes }
      this.#listener.heard('answer', answer)
      this.#insist(this.request('answer', answer))
    } catch (error) {
      this.#fail(new CountersignError('protocol', `the program was refused: ${(error as Error).message}`))
    }
  }

  #verified({ connectionId }: Push): void {
    if (connectionId !== this.id) return this.#fail(new CountersignError('protocol', 'the node verified another connection'))
    this.isVerified = true
    this.#ready()
  }

  #ready(): void {
    this.isReady = true
    this.#listener.ready()
  }

  /** A step without which there is nothing to be had here. That the socket closed, its close will tell. */
  #insist(step: Promise<unknown>): void {
    step.catch((error: CountersignError) => {
      if (error.code === 'timeout') this.#abandon()
      else if (error.code !== 'closed') this.#fail(error)
    })
  }

  /** Nobody is there any more: as good as lost, and not waited for. */
  #abandon(): void {
    this.#socket.onmessage = null
    this.#socket.onclose = null
    this.close()
    this.#closed(1006, 'no reply')
  }

  #fail(error: CountersignError): void {
    this.#listener.failed(error)
    this.close()
  }

  #closed(code: number, reason: string): void {
    this.isReady = false
    for (const id of [...this.#pending.keys()]) {
      this.#settle(id)?.reject(new CountersignError('closed', `closed: ${code} ${reason}`, code))
    }
    this.#listener.closed(code, reason)
    this.#end({ code, reason })
  }
}
