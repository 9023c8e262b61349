// What is answered to a challenge: that the program was run, on this socket, by the holder of this key.
//
// The node builds the same transcripts from what it knows itself (broker/src/challenge/); golden vectors hold both to it.

import { decode, encode } from './base64url.js'
import type { Bytes } from './base64url.js'
import { CountersignError } from './errors.js'
import { verifies } from './key.js'
import type { PageKey } from './key.js'
import { confirm, integer, sha256, transcript, utf8 } from './transcript.js'
import { evaluate } from './vm.js'
import type { Tapes } from './vm.js'
import { MODES } from './wire.js'
import type { Answer, Challenge, Mode } from './wire.js'
import { readFile, solve } from './work.js'

/** A form of programs that a client can run. */
export interface Form {
  /** As `hello` offers it. */
  readonly name: string
  /** Only programs that a pinned key has signed are run. */
  readonly pinned?: boolean
  /** The program is somewhere else: `run` is given a handle of it, and its hash is the node's word. Never for what is run here. */
  readonly elsewhere?: boolean
  /** Runs a program: its eight lanes or, where another window runs it, the 32 bytes of the MAC over `transcript`. */
  run(program: string, tapes: Tapes, transcript: Bytes): Promise<number[] | Bytes>
}

/** What a connection knows when it is challenged. */
export interface Situation {
  key: PageKey
  /** The frame that said hello, as it was sent. */
  hello: string
  clientNonce: Bytes
  connectionId: string
  /** Of the node, as it was dialed. */
  host: string
  /** Of the page, or empty. */
  origin: string
  /** The least that calls must show. */
  mode: Mode
  /** Of nodes; one of them must have signed the program. */
  pins?: string[]
  forms: Form[]
  /** What the paths of files begin with that the node may ask for. */
  files?: string
  fetch: typeof fetch
}

/** Bytecode, in the interpreter here. */
export const VM: Form = { name: 'vm', run: async (program, tapes) => evaluate(bytes(program), tapes) }

/** Runs the program. Whatever cannot be run, or not be verified, throws: it is a failure, never a pass. */
export async function answer(challenge: Challenge, situation: Situation): Promise<Answer> {
  const { epoch, form, program, mode, answerMs, work, file } = challenge
  const { key, host, origin, pins, forms, clientNonce } = situation
  const { thumbprint } = key
  const until = Date.now() + answerMs
  const runner = forms.find(({ name }) => name === form) ?? refuse(`form ${form} was not offered`)
  // A mode that is not known is weaker than any.
  if (MODES.indexOf(mode) < MODES.indexOf(situation.mode)) refuse(`mode ${mode} is too low`)

  const id = bytes(challenge.challenge)
  const serverNonce = bytes(challenge.nonce)
  const connection = bytes(situation.connectionId)
  const when = integer(epoch, 4)
  const hello = await sha256(situation.hello)
  const hash = runner.elsewhere ? bytes(challenge.programHash ?? '') : await sha256(program)
  const asked = [work && [work.bits, work.count], file && [...utf8(file.path), 0, ...integer(file.offset, 8), ...integer(file.length, 4)]]
  if (runner.pinned || pins) {
    const signed = (signer: string): Bytes =>
      transcript('countersign/frame/v1', signer, host, hello, connection, id, when, form, serverNonce, hash, mode, integer(answerMs, 4), ...asked)
    if (!(await isSigned(challenge.signature, pins, signed).catch(() => false))) throw new CountersignError('program_unsigned', 'no pinned key has signed the program')
  }
  const ancestors = globalThis.location?.ancestorOrigins
  const topOrigin = ancestors?.[ancestors.length - 1]
  const T = transcript(
    'countersign/answer/v1', 'countersign.v1', form, host, connection, id, when, hello, serverNonce, hash, origin, topOrigin, thumbprint, mode,
    ...asked,
  )
  const tapes = { serverNonce, clientNonce, connection, thumbprint, origin, file: file && (await readFile(file, situation)) }
  const result = await runner.run(program, tapes, T)
  const mac = result instanceof Uint8Array ? result : await confirm(hash, result, T)
  return {
    challenge: challenge.challenge,
    epoch,
    origin,
    topOrigin,
    mac: encode(mac),
    signature: encode(await key.sign(transcript('countersign/bind/v1', T, mac))),
    work: work && (await solve(work, [id, serverNonce, thumbprint], until)),
  }
}

/** Has one of the pinned keys signed this? */
async function isSigned(signature = '', pins: string[] = [], signed: (signer: string) => Bytes): Promise<boolean> {
  for (const pin of pins) {
    const point = bytes(pin)
    if (await verifies(point, bytes(signature), signed(encode(await sha256(point))))) return true
  }
  return false
}

function bytes(text: string): Bytes {
  return decode(text) ?? refuse('no bytes')
}

function refuse(why: string): never {
  throw new Error(why)
}
