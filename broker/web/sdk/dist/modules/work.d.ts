import type { Situation } from './answer.js';
import type { Bytes } from './base64url.js';
import type { Field } from './transcript.js';
import type { FilePart, Work } from './wire.js';
/** Solves the puzzles, without keeping the page from anything else; throws when it is too late. */
export declare function solve({ bits, count }: Work, bound: Field[], until: number): Promise<number[]>;
/** SHA-256 of a part of a file of the page's own origin that the page lets nodes ask for; no more is read than needed. */
export declare function readFile({ path, offset, length }: FilePart, { origin, files, fetch }: Pick<Situation, 'origin' | 'files' | 'fetch'>): Promise<Bytes>;
