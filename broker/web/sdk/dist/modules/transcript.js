// What is hashed, authenticated and signed: labelled fields in a fixed order (broker/src/challenge/transcript.rs).
/** A label and fields, each as tag (8 bits), length (32 bits, big-endian), bytes: no two lists give the same bytes. */
export function transcript(...fields) {
    return Uint8Array.from(fields.flatMap((field, tag) => {
        const bytes = typeof field === 'string' ? utf8(field) : (field ?? []);
        return [tag, ...integer(bytes.length, 4), ...bytes];
    }));
}
/** An unsigned integer, at most 2^53, in so many bytes, big-endian. */
export function integer(value, bytes) {
    return Array.from({ length: bytes }, (_, place) => (value / 2 ** (8 * (bytes - 1 - place))) & 255);
}
export function utf8(text) {
    return new TextEncoder().encode(text);
}
export async function sha256(data) {
    return new Uint8Array(await crypto.subtle.digest('SHA-256', typeof data === 'string' ? utf8(data) : data));
}
/** The MAC over a transcript by whoever has run the program: `hash` is of its text, as it was delivered. */
export async function confirm(hash, lanes, data) {
    const HMAC = { name: 'HMAC', hash: 'SHA-256' };
    const key = await sha256(transcript('countersign/k/v1', hash, lanes.flatMap((lane) => integer(lane >>> 0, 4))));
    const imported = await crypto.subtle.importKey('raw', key, HMAC, false, ['sign']);
    return new Uint8Array(await crypto.subtle.sign(HMAC, imported, data));
}
