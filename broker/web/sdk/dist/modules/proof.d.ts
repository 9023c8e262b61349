import type { PageKey } from './key.js';
import type { Ticket } from './wire.js';
/** The header that shows that this one call was made by the holder of the key. A call without bytes has no digest. */
export declare function proof(key: PageKey, { ticket, nonce }: Ticket, method: string, { href }: URL, body: ArrayBuffer): Promise<string>;
