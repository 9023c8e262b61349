// The key that a page holds. It is made by the platform, which does not give its private half away, and dies with the page.

import { sha256 } from './transcript.js'
import type { Bytes } from './base64url.js'
import { CountersignError } from './errors.js'

const P256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }

/** A key, and the calls that were signed with it. */
export interface PageKey {
  /** The public half: 65 bytes, an uncompressed point. */
  point: Bytes
  /** SHA-256 of `point`. */
  thumbprint: Bytes
  /** Raw r and s, 64 bytes. */
  sign(data: Bytes): Promise<Bytes>
  /** The next of this key's numbers, from 1. */
  count(): number
}

let own: Promise<CryptoKeyPair> | undefined
/** By private half: connections of one key share its numbers. */
const counts = new WeakMap<CryptoKey, number>()

/** The page's own key, made when it is first asked for, or one that is supplied. */
export async function pageKey(supplied?: CryptoKeyPair): Promise<PageKey> {
  const { subtle } = crypto
  if (!subtle) throw new CountersignError('insecure_context', 'page is not secure')
  const { privateKey, publicKey } = supplied ?? (await (own ??= subtle.generateKey(P256, false, ['sign'])))
  const point = new Uint8Array(await subtle.exportKey('raw', publicKey))
  return {
    point,
    thumbprint: await sha256(point),
    sign: async (data) => new Uint8Array(await subtle.sign(P256, privateKey, data)),
    count() {
      const count = (counts.get(privateKey) ?? 0) + 1
      counts.set(privateKey, count)
      return count
    },
  }
}

/** Did the holder of this public key sign that? Bytes that are no key, or no signature, say no. */
export async function verifies(point: Bytes, signature: Bytes, data: Bytes): Promise<boolean> {
  const { subtle } = crypto
  return subtle.verify(P256, await subtle.importKey('raw', point, P256, false, ['verify']), signature, data)
}
