// What calls carry to show in whose name they are made.

import { decode, encode } from './base64url.js'
import type { PageKey } from './key.js'
import { integer, sha256, transcript } from './transcript.js'
import type { Ticket } from './wire.js'

/** The header that shows that this one call was made by the holder of the key. A call without bytes has no digest. */
export async function proof(key: PageKey, { ticket, nonce }: Ticket, method: string, { href }: URL, body: ArrayBuffer): Promise<string> {
  const count = key.count()
  const digest = body.byteLength > 0 ? await sha256(new Uint8Array(body)) : null
  // As it stands in the request: with a query that is empty, without scheme and fragment.
  const target = href.replace(/^\w+:..|#.*/g, '')
  const signed = transcript('countersign/proof/v1', method, target, await sha256(ticket), integer(count, 8), decode(nonce), digest)
  return `v1.${count}.${nonce}.${digest ? encode(digest) : ''}.${encode(await key.sign(signed))}`
}
