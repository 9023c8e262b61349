// What can be known of the page, where there is one.

/** As the handshake's `Origin` will have it: opaque origins are `null` whatever `location` says. None outside of pages. */
export function pageOrigin(): string {
  if (globalThis.location === undefined) return ''
  return globalThis.origin === 'null' ? 'null' : globalThis.location.origin
}

/** Can nobody on the way read along? Addresses of this machine count as secure, as they do for browsers. */
export function isSecure({ protocol, hostname }: URL): boolean {
  const isLocal = /^(localhost|.+\.localhost|127(\.\d+){3}|\[::1\])$/.test(hostname)
  return globalThis.isSecureContext !== false && (protocol === 'wss:' || isLocal)
}

/**
 * Is a node there that does not let this page's scripts read its answers? It lets those of the listed origins, so a
 * handshake that failed at such a node was refused for its origin. Browsers do not tell pages why a handshake failed.
 */
export async function isOriginRefused(url: string, fetch: typeof globalThis.fetch): Promise<boolean> {
  const here = globalThis.location
  if (here === undefined || here.origin === new URL(url).origin) return false
  const reaches = (mode: RequestMode): Promise<boolean> =>
    fetch(url, { mode, credentials: 'omit', cache: 'no-store' }).then(() => true, () => false)
  return !(await reaches('cors')) && (await reaches('no-cors'))
}
