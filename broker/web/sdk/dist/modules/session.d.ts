import type { Form } from './answer.js';
import { CountersignError } from './errors.js';
import type { PageKey } from './key.js';
import type { Mode, Ticket } from './wire.js';
/** What is needed of a socket: a browser's, or one that another platform supplies. */
export interface SocketLike {
    readonly readyState: number;
    onmessage: ((event: {
        data: unknown;
    }) => void) | null;
    onclose: ((event: {
        code: number;
        reason: string;
    }) => void) | null;
    onerror: ((event: unknown) => void) | null;
    send(text: string): void;
    close(code?: number, reason?: string): void;
}
/** What a session tells the connection. */
export interface SessionListener {
    /** Something was pushed, or said: for events. */
    heard(name: string, value: unknown): void;
    /** The challenge is answered, or there was none: requests may be made. */
    ready(): void;
    /** This node and this client cannot come together; the socket is being closed. */
    failed(error: CountersignError): void;
    /** The last call. */
    closed(code: number, reason: string): void;
}
/** How a socket ended. */
export interface Closed {
    code: number;
    reason: string;
}
/** What a session needs to know. */
export interface SessionSettings {
    /** The page's origin, or the empty text outside of pages. */
    origin: string;
    /** The node's, as it was dialed. */
    host: string;
    mode?: Mode;
    key?: CryptoKeyPair;
    pins?: string[];
    forms: Form[];
    files?: string;
    fetch: typeof fetch;
    requestTimeoutMs: number;
}
export declare class Session {
    #private;
    id: string | null;
    expiresAt: number | null;
    /** Requests can be made. */
    isReady: boolean;
    isVerified: boolean;
    /** What calls must show. It rises, and never falls. */
    mode: Mode;
    key: PageKey | null;
    /** The newest. */
    ticket: Ticket | null;
    /** Resolves with the close. */
    readonly ended: Promise<Closed>;
    constructor(socket: SocketLike, settings: SessionSettings, listener: SessionListener);
    /** Is there something to show for a call? Counted from when a ticket came: nobody's clock has to be right. */
    get canCall(): boolean;
    /** Sends a request; its `ok`. */
    request(action: string, members?: object): Promise<Record<string, unknown>>;
    close(): void;
    /** Nobody is there any more: as good as lost, and not waited for. */
    abandon(): void;
}
