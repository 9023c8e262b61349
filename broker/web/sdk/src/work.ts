// What a node may ask for beside the program: puzzles that cost time, and a part of one of the page's own files.

import type { Bytes } from './base64url.js'
import { sha256, transcript, integer } from './transcript.js'
import type { Field } from './transcript.js'
import type { FilePart, Work } from './wire.js'

/** Digests under way at once. */
const BATCH = 256

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

/** SHA-256 of a part of a file of the page's own origin; from the browser's cache, if it is there. */
export async function readFile({ path, offset, length }: FilePart, origin: string, fetch: typeof globalThis.fetch): Promise<Bytes> {
  const url = new URL(path, origin)
  if (url.origin !== origin) throw new Error('the file is of another origin')
  const response = await fetch(url, { credentials: 'omit', redirect: 'error' })
  const part = (await response.arrayBuffer()).slice(offset, offset + length)
  if (!response.ok || part.byteLength !== length) throw new Error('there is no such part of the file')
  return sha256(new Uint8Array(part))
}
