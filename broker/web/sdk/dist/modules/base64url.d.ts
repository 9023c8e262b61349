/** Bytes as text. */
export declare function encode(bytes: Uint8Array): string;
/** Text as bytes; null for anything that `encode` would not have written. */
export declare function decode(text: string): Uint8Array | null;
