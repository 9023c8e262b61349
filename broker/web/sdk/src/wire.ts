// The frames of `countersign.v1` that a node sends. Members that this client does not know are a newer node's.

/** A reply to a request. */
export interface Reply {
  id: number
  ok?: Record<string, unknown>
  error?: { code: string; message: string }
}

export interface Welcome {
  event: 'welcome'
  connectionId: string
  challenge: 'required' | 'off'
  subject: string | null
  expiresAt: number | null
}

export interface Challenge {
  event: 'challenge'
  challenge: string
  epoch: number
  form: string
  nonce: string
  program: string
  /** SHA-256 of the program, where `program` is a handle of it. */
  programHash?: string
  answerMs: number
  /** What calls in this connection's name must show. */
  mode: Mode
  /** Of the node's key over all of this, if it signs. */
  signature?: string
  /** Puzzles to solve before the deadline. */
  work?: Work
  /** A part of one of the page's own files, for the program to read. */
  file?: FilePart
}

/** What calls must show: the connection id, a ticket, or a ticket with a signature of the page's key. */
export type Mode = 'bearer' | 'ticket' | 'proof'

/** From the weakest. */
export const MODES: readonly Mode[] = ['bearer', 'ticket', 'proof']

/** `count` puzzles, each solved by a digest that begins with `bits` zero bits. */
export interface Work {
  bits: number
  count: number
}

export interface FilePart {
  path: string
  offset: number
  length: number
}

/** What is answered to a challenge, beside the request's id and action. */
export interface Answer {
  challenge: string
  epoch: number
  origin: string
  topOrigin: string | undefined
  mac: string
  signature: string
  work: number[] | undefined
}

/** What calls show for a while, in modes above `bearer`. */
export interface Ticket {
  event: 'ticket'
  ticket: string
  /** Goes into proofs. */
  nonce: string
  expiresInMs: number
}

export interface Publication {
  event: 'publication'
  channel: string
  data?: unknown
  binary?: string
}

/** Anything else that is pushed. */
export interface Push {
  event: string
  [member: string]: unknown
}

/** The members that a known event must have: texts, and numbers after the sign; what ends with `?` may be null. */
const SHAPES: Readonly<Record<string, string>> = {
  welcome: 'connectionId challenge subject? #expiresAt?',
  challenge: 'challenge form nonce program mode #epoch #answerMs',
  ticket: 'ticket nonce #expiresInMs',
  verified: 'connectionId',
  publication: 'channel',
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Has the frame this member of a shape? */
const has = (frame: Record<string, unknown>, member: string): boolean => {
  const value = frame[member.replace(/\W/g, '')]
  return typeof value === (member.startsWith('#') ? 'number' : 'string') || (value === null && member.endsWith('?'))
}

/** One frame, if it is one. */
export function parse(text: unknown): Reply | Push | null {
  let frame: unknown
  try {
    frame = typeof text === 'string' ? JSON.parse(text) : null
  } catch {
    return null
  }
  if (!isObject(frame)) return null
  if (typeof frame.event === 'string') {
    const members = Object.hasOwn(SHAPES, frame.event) ? SHAPES[frame.event]!.split(' ') : []
    return members.every((member) => has(frame, member)) ? (frame as Push) : null
  }
  const { id, ok, error } = frame
  const told = isObject(ok) || (isObject(error) && typeof error.code === 'string' && typeof error.message === 'string')
  return typeof id === 'number' && told ? (frame as unknown as Reply) : null
}

export const isReply = (frame: Reply | Push): frame is Reply => !('event' in frame)
