/** Code, text on the wire, and whether a client may reconnect unchanged. */
export declare const CLOSE_CODES: ReadonlyArray<readonly [code: number, text: string, reconnect: boolean]>;
