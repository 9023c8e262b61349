// What a node may ask for beside the program: puzzles that cost time, and a part of one of the page's own files.

import type { Situation } from './answer.js'
import type { Bytes } from './base64url.js'
import { sha256, transcript, integer } from './transcript.js'
import type { Field } from './transcript.js'
import type { FilePart, Work } from './wire.js'

/** Digests under way at once. */
const BATCH = 256
/** Most bytes of a file that are read for a node. Nodes ask for at most 4,096. */
const PART_MAX = 65536

/** Solves the puzzles, without keeping the page from anything else; throws when it is too late. */
export async function solve({ bits, count }: Work, bound: Field[], until: number): Promise<number[]> {
  const solutions: number[] = []
  for (let start = 0; solutions.length < count; start += BATCH) {
    if (Date.now() > until) throw new Error('the puzzles take too long')
    const puzzle = transcript('countersign/work/v1', ...bound, [solutions.length], integer(start, 4))
    const digests = await Promise.all(
      Array.from({ length: BATCH }, (_, place) => {
        // A batch of 256 differs in its last byte.
        puzzle[puzzle.length - 1] = place
        return sha256(puzzle.slice())
      }),
    )
    const found = digests.findIndex(({ buffer }) => new DataView(buffer).getUint32(0) < 2 ** (32 - bits))
    if (found >= 0) {
      solutions.push(start + found)
      start = -BATCH
    }
  }
  return solutions
}

/** SHA-256 of a part of a file of the page's own origin that the page lets nodes ask for; no more is read than needed. */
export async function readFile({ path, offset, length }: FilePart, { origin, files, fetch }: Pick<Situation, 'origin' | 'files' | 'fetch'>): Promise<Bytes> {
  const { href } = new URL(path, origin)
  // Some servers take an encoded slash for one, and leave the folder with it.
  if (!files || !href.startsWith(origin + files) || /%2f|%5c/i.test(href) || length > PART_MAX) throw new Error('there is no such file')
  const { ok, status, body } = await fetch(href, { credentials: 'omit', redirect: 'error', headers: { Range: `bytes=${offset}-${offset + length - 1}` } })
  const part = new Uint8Array(length)
  const reader = body!.getReader()
  // Whoever knows nothing of ranges sends what is before it, too.
  for (let at = status === 206 ? 0 : -offset; at < length; ) {
    const { value } = await reader.read()
    if (!ok || !value) throw new Error('there is no such file')
    const from = Math.max(0, -at)
    part.set(value.subarray(from, length - at), at + from)
    at += value.length
  }
  // The bytes are there: what becomes of the rest does not matter.
  reader.cancel().catch(() => {})
  return sha256(part)
}
