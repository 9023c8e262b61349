/** May a client reconnect unchanged after this code? */
export declare function mayReconnect(code: number): boolean;
/** The pause that a draining node asks for in its reason, in milliseconds; null where there is none. */
export declare function retryHint(reason: string): number | null;
