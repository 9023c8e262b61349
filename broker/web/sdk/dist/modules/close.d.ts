/** Code, text on the wire, and whether a client may reconnect unchanged. */
export declare const CLOSE_CODES: ReadonlyArray<readonly [code: number, text: string, reconnect: boolean]>;
/** May a client reconnect unchanged after this code? */
export declare function mayReconnect(code: number): boolean;
/** The pause that a draining node asks for in its reason, in milliseconds; null where there is none. */
export declare function retryHint(reason: string): number | null;
