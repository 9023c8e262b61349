// What the frame answers with: that the program ran here, for a page of the origin that the browser names.
//
// The page hands over the transcript that it will sign. The frame checks what it knows better than the page, or what it is
// there to vouch for, and signs nothing else: form, host, program and origins.

import type { Bytes } from '../../sdk/src/base64url.js'
import { decode } from '../../sdk/src/base64url.js'
import { confirm, sha256 } from '../../sdk/src/transcript.js'
import { evaluate } from '../../sdk/src/vm.js'

/** What a page asks. */
export interface Question {
  /** Of the program. */
  handle: string
  /** T, as the node will build it. */
  transcript: Bytes
  /** The 32 bytes of the page's `hello`. */
  clientNonce: Bytes
  /** The digest of the part of a file that the challenge asks for, if it asks. */
  file?: Bytes | null
}

/** Where the frame stands, in the browser's words. */
export interface Ground {
  /** Of who asks: `event.origin`. */
  origin: string
  /** Of this document, with its port. */
  host: string
  /** Origins of the windows around, the page's first; none where the browser does not tell. */
  ancestors: readonly string[] | undefined
  /** The program of a handle. It is given once. */
  program(handle: string): Promise<string>
}

// Places in T.
const LABEL = 0
const VERSION = 1
const FORM = 2
const HOST = 3
const CONNECTION = 4
const SERVER_NONCE = 8
const PROGRAM = 9
const ORIGIN = 10
const TOP_ORIGIN = 11
const THUMBPRINT = 12
const FIELDS = 16

/** The MAC over the page's transcript. Throws where that does not say the truth. */
export async function attest({ handle, transcript, clientNonce, file }: Question, ground: Ground): Promise<Bytes> {
  const fields = read(transcript)
  const says = (place: number, text: string): boolean => decodeText(fields[place]!) === text
  if (!says(LABEL, 'countersign/answer/v1') || !says(VERSION, 'countersign.v1') || !says(FORM, 'frame')) refuse('transcript')
  if (!says(HOST, ground.host)) refuse('host')
  if (!says(ORIGIN, ground.origin)) refuse('origin')
  const { ancestors } = ground
  // A page that is the top itself names no top.
  if (ancestors && !says(TOP_ORIGIN, ancestors.length > 1 ? ancestors[ancestors.length - 1]! : '')) refuse('topOrigin')

  const text = await ground.program(handle)
  const hash = await sha256(text)
  if (!isSame(hash, fields[PROGRAM]!)) refuse('program')
  const [serverNonce, connection, thumbprint] = [fields[SERVER_NONCE]!, fields[CONNECTION]!, fields[THUMBPRINT]!]
  const lanes = evaluate(decode(text) ?? refuse('program'), { serverNonce, clientNonce, connection, thumbprint, origin: ground.origin, file })
  return confirm(hash, lanes, transcript)
}

/** The fields of a transcript, the label first: tag (8 bits), length (32 bits, big-endian), bytes, and nothing more. */
function read(transcript: Bytes): Bytes[] {
  const view = new DataView(transcript.buffer, transcript.byteOffset, transcript.length)
  const fields: Bytes[] = []
  let at = 0
  while (at < transcript.length) {
    if (at + 5 > transcript.length || view.getUint8(at) !== fields.length) refuse('transcript')
    const end = at + 5 + view.getUint32(at + 1, false)
    if (end > transcript.length) refuse('transcript')
    fields.push(transcript.slice(at + 5, end))
    at = end
  }
  return fields.length === FIELDS ? fields : refuse('transcript')
}

function decodeText(bytes: Bytes): string {
  return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
}

function isSame(a: Bytes, b: Bytes): boolean {
  return a.length === b.length && a.every((byte, place) => byte === b[place])
}

function refuse(why: string): never {
  throw new Error(why)
}
