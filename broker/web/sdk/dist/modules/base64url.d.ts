/** Bytes as text. At most some tens of kilobytes: each byte becomes an argument of a call. */
export declare function encode(bytes: Uint8Array): string;
/** Text as bytes; null for anything that `encode` would not have written. */
export declare function decode(text: string): Bytes | null;
/** Bytes that the platform's cryptography takes: their memory is not shared. */
export type Bytes = Uint8Array<ArrayBuffer>;
