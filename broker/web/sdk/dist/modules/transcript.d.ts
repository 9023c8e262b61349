import type { Bytes } from './base64url.js';
/** Text is its UTF-8; what is absent has length 0. */
export type Field = string | Uint8Array | number[] | null | undefined;
/** A label and fields, each as tag (8 bits), length (32 bits, big-endian), bytes: no two lists give the same bytes. */
export declare function transcript(...fields: [label: string, ...Field[]]): Bytes;
/** An unsigned integer, at most 2^53, in so many bytes, big-endian. */
export declare function integer(value: number, bytes: number): number[];
export declare function utf8(text: string): Bytes;
export declare function sha256(data: string | Bytes): Promise<Bytes>;
/** The MAC over a transcript by whoever has run the program: `hash` is of its text, as it was delivered. */
export declare function confirm(hash: Bytes, lanes: number[], data: Bytes): Promise<Bytes>;
