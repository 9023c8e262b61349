/** As the handshake's `Origin` will have it: opaque origins are `null` whatever `location` says. None outside of pages. */
export declare function pageOrigin(): string;
/** Can nobody on the way read along? Addresses of this machine count as secure, as they do for browsers. */
export declare function isSecure({ protocol, hostname }: URL): boolean;
/**
 * Is a node there that does not let this page's scripts read its answers? It lets those of the listed origins, so a
 * handshake that failed at such a node was refused for its origin. Browsers do not tell pages why a handshake failed.
 */
export declare function isOriginRefused(url: string, fetch: typeof globalThis.fetch): Promise<boolean>;
