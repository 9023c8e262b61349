import type { Form } from './answer.js';
import type { BackoffOptions } from './backoff.js';
import { CountersignError } from './errors.js';
import type { Closed, SocketLike } from './session.js';
import { Subscription } from './subscription.js';
import type { Handler } from './subscription.js';
import type { Mode } from './wire.js';
/** How to connect. Everything has a default. */
export interface Options {
    /** A token, or a function that gives a fresh one: before each connection, and before the old one expires. */
    token?: string | (() => string | Promise<string>);
    /** Send the token in this query parameter instead of a subprotocol. Proxies log URLs. */
    tokenQuery?: string;
    /** What a subprotocol that holds a token begins with. Default: `countersign.token.` */
    tokenPrefix?: string;
    /** The least that calls in this connection's name must show; the node may ask for more. Default: what the node says. */
    mode?: Mode;
    /** Public keys of the node, present and next (65 bytes, base64url). With them, programs that none of these signed are refused. */
    pins?: string[];
    /** Forms of programs beside bytecode: plug-ins. */
    forms?: Form[];
    /** What the paths of those of the page's own files begin with of which nodes may ask for a part: `/assets/`. Default: none. */
    files?: string;
    /** ECDSA on P-256, instead of the page's own key. */
    key?: CryptoKeyPair;
    /** The header of `fetch` that carries the connection id. Default: `connectionId`. */
    header?: string;
    /** Origins beside the page's own and the node's to which `fetch` may show credentials. */
    fetchOrigins?: string[];
    /** Outside of pages: the origin to answer with, the `Origin` that the supplied socket sends. Default: none. */
    origin?: string;
    /** Connect from a page, or to a URL, that is not secure. Everyone on the way can read along. Default: false. */
    allowInsecure?: boolean;
    /** Reconnect where the close code lets it. Default: true. */
    reconnect?: boolean;
    backoff?: BackoffOptions;
    /** How long a reply is waited for, and a silent node before the connection is ready. Default: 15,000. */
    requestTimeoutMs?: number;
    /** How long `ready`, requests, subscriptions and calls wait for a connection or a ticket before they end with `timeout`. Default: 60,000. */
    readyTimeoutMs?: number;
    /** How long the token function is waited for before it is asked again; longer where it asks people. Default: 60,000. */
    tokenTimeoutMs?: number;
    /** Values that wait for one async iterator before it ends with `slow_consumer`. Default: 1,024. */
    queueMax?: number;
    /** Default: the platform's. */
    WebSocket?: new (url: string, protocols: string[]) => SocketLike;
    /** Default: the platform's. */
    fetch?: typeof fetch;
    /** 0 to 1, for jitter. Default: `Math.random`. */
    random?: () => number;
}
/** `open`: not, or not yet, verified. `waiting`: for the next attempt, or for the page to be shown again. `closed` is final. */
export type State = 'connecting' | 'open' | 'verified' | 'waiting' | 'closed';
/** Something that happened. */
export interface ConnectionEvent {
    type: string;
    value: unknown;
}
/** A connection that comes back. */
export declare class Connection {
    #private;
    /** Resolves once, when the connection is closed for good: null where `close` was called. */
    readonly closed: Promise<CountersignError | null>;
    /** Made by `connect`. */
    constructor(url: string | URL, options: Options);
    get state(): State;
    /** The id of the present socket. A secret as long as that is open. */
    get id(): string | null;
    /** Resolves when requests can be made: the connection is verified, or is never challenged. Ends with `timeout` where that
     * takes longer than this, or than `readyTimeoutMs` of the options. */
    ready(timeoutMs?: number): Promise<void>;
    /** Calls back on `state`, `welcome`, `challenge`, `answer`, `verified`, `ticket`, `publication`, `message`,
     * `disconnected`, `error`, `frame` and whatever else the node pushes; call the result to end that. */
    on(type: string, listener: (value: any) => void): () => void;
    /** Everything that happens from now on but frames, until the connection is closed. */
    events(): AsyncIterableIterator<ConnectionEvent>;
    /** Subscribes, and again after every reconnection; resolves when the node has agreed, and is given up where it does not in time. */
    subscribe(channel: string, handler?: Handler): Promise<Subscription>;
    /** Ends a subscription. */
    unsubscribe(channel: string): Promise<void>;
    /** Publishes a JSON value; with `exclude`, to all but this connection. */
    publish(channel: string, data: unknown, { exclude }?: {
        exclude?: boolean | undefined;
    }): Promise<void>;
    /** Any other action of the node's configuration; the `ok` of its reply. */
    request(action: string, members?: object): Promise<Record<string, unknown>>;
    /** `fetch` with the credential of the present mode, or of a stronger one: to the page's origin, the node's and those that
     * the options name, and nowhere else. Redirects are errors unless asked for: they would take the credential along. */
    fetch(input: string | URL | Request, init?: RequestInit, mode?: Mode): Promise<Response>;
    /** The headers that `fetch` would add, for another client of HTTP. A proof is good once, for this URL, body
     * and method, which is written as `fetch` sends it: `delete` as `DELETE`, `patch` as it is. */
    headersFor(method: string, url: string | URL, body?: BodyInit | null, mode?: Mode): Promise<Record<string, string>>;
    /** Closes for good; how the socket ended, or null where there was none. */
    close(): Promise<Closed | null>;
}
