// Base64url without padding, in its one canonical spelling.

/** Bytes as text. At most some tens of kilobytes: each byte becomes an argument of a call. */
export function encode(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')
}

/** Text as bytes; null for anything that `encode` would not have written. */
export function decode(text: string): Bytes | null {
  try {
    const bytes = Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (unit) => unit.charCodeAt(0))
    return encode(bytes) === text ? bytes : null
  } catch {
    return null
  }
}

/** Bytes that the platform's cryptography takes: their memory is not shared. */
export type Bytes = Uint8Array<ArrayBuffer>
