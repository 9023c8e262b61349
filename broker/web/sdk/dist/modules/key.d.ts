import type { Bytes } from './base64url.js';
/** A key, and the calls that were signed with it. */
export interface PageKey {
    /** The public half: 65 bytes, an uncompressed point. */
    point: Bytes;
    /** SHA-256 of `point`. */
    thumbprint: Bytes;
    /** Raw r and s, 64 bytes. */
    sign(data: Bytes): Promise<Bytes>;
    /** The next of this key's numbers, from 1. */
    count(): number;
}
/** The page's own key, made when it is first asked for, or one that is supplied. */
export declare function pageKey(supplied?: CryptoKeyPair): Promise<PageKey>;
/** Did the holder of this public key sign that? Bytes that are no key, or no signature, say no. */
export declare function verifies(point: Bytes, signature: Bytes, data: Bytes): Promise<boolean>;
