import { VM } from './answer.js';
import { Backoff } from './backoff.js';
import { mayReconnect, retryHint } from './close.js';
import { CountersignError } from './errors.js';
import { isOriginRefused, isSecure, pageOrigin } from './page.js';
import { proof } from './proof.js';
import { Queue } from './queue.js';
import { Session } from './session.js';
import { Subscription } from './subscription.js';
const WAITERS_MAX = 1024;
/** A connection that lasted as long was a good one: pauses begin anew. */
const LASTED_MS = 10_000;
const TIMER_MAX = 0x7fffffff;
/** How long others are waited for, if the options do not say. */
const WAIT_MS = 60_000;
/** A connection that comes back. */
export class Connection {
    /** Resolves once, when the connection is closed for good: null where `close` was called. */
    closed;
    #state = 'connecting';
    #session = null;
    #error = null;
    #ended;
    #opened = false;
    #hidden = false;
    #tokenRetried = false;
    #readyAt = Infinity;
    #attempt = 0;
    /** Of what comes next: the end of the wait for a token, the next attempt, or the refreshment of the token. */
    #timer;
    /** Each goes on if it can, or ends with the error. */
    #waiters = new Set();
    #url;
    #options;
    #backoff;
    #subscriptions = new Map();
    #listeners = new Map();
    #queues = new Set();
    /** Made by `connect`. */
    constructor(url, options) {
        this.#url = new URL(url, globalThis.location?.href);
        this.#url.protocol = this.#url.protocol.replace('http', 'ws');
        this.#options = options;
        if (!options.allowInsecure && !isSecure(this.#url)) {
            throw new CountersignError('insecure_context', 'page or URL is not secure');
        }
        if (!options.pins && options.forms?.some(({ pinned }) => pinned)) {
            throw new CountersignError('program_unsigned', 'programs of this form need pinned keys');
        }
        this.#backoff = new Backoff(options.backoff ?? {}, options.random ?? Math.random);
        this.closed = new Promise((resolve) => (this.#ended = resolve));
        globalThis.addEventListener?.('pagehide', this.#onHide);
        globalThis.addEventListener?.('pageshow', this.#onShow);
        void this.#open();
    }
    get state() {
        return this.#state;
    }
    /** The id of the present socket. A secret as long as that is open. */
    get id() {
        return this.#session?.id ?? null;
    }
    /** Resolves when requests can be made: the connection is verified, or is never challenged. Ends with `timeout` where that
     * takes longer than this, or than `readyTimeoutMs` of the options. */
    async ready(timeoutMs) {
        await this.#whenReady(isReady, undefined, timeoutMs);
    }
    /** Calls back on `state`, `welcome`, `challenge`, `answer`, `verified`, `ticket`, `publication`, `message`,
     * `disconnected`, `error`, `frame` and whatever else the node pushes; call the result to end that. */
    on(type, listener) {
        const listeners = this.#listeners.get(type) ?? new Set();
        this.#listeners.set(type, listeners.add(listener));
        return () => void listeners.delete(listener);
    }
    /** Everything that happens from now on but frames, until the connection is closed. */
    events() {
        const queue = new Queue(this.#options.queueMax ?? 1024, () => void this.#queues.delete(queue));
        if (this.#state === 'closed')
            queue.end();
        else
            this.#queues.add(queue);
        return queue;
    }
    /** Subscribes, and again after every reconnection; resolves when the node has agreed, and is given up where it does not in time. */
    async subscribe(channel, handler) {
        let subscription = this.#subscriptions.get(channel);
        if (!subscription) {
            subscription = new Subscription(channel, this.#options.queueMax ?? 1024, () => this.unsubscribe(channel));
            this.#subscriptions.set(channel, subscription);
            if (this.#session?.isReady)
                void this.#resubscribe(this.#session, subscription);
        }
        const off = handler && subscription.on(handler);
        try {
            await this.#whenReady(() => subscription.isSettled);
            await subscription.accepted;
        }
        catch (error) {
            off?.();
            if (!subscription.isSettled) {
                subscription.finish(error);
                this.unsubscribe(channel).catch(() => { });
            }
            throw error;
        }
        return subscription;
    }
    /** Ends a subscription. */
    async unsubscribe(channel) {
        const subscription = this.#subscriptions.get(channel);
        if (!subscription)
            return;
        this.#subscriptions.delete(channel);
        subscription.finish(null);
        this.#release();
        // A socket that is gone has no subscriptions.
        if (this.#session?.isReady)
            await this.#session.request('unsubscribe', { channel }).catch(unlessGone);
    }
    /** Publishes a JSON value; with `exclude`, to all but this connection. */
    async publish(channel, data, { exclude = false } = {}) {
        await this.request('publish', { channel, data, exclude });
    }
    /** Any other action of the node's configuration; the `ok` of its reply. */
    async request(action, members = {}) {
        return (await this.#whenReady()).request(action, members);
    }
    /** `fetch` with the credential of the present mode, or of a stronger one: to the page's origin, the node's and those that
     * the options name, and nowhere else. Redirects are errors unless asked for: they would take the credential along. */
    async fetch(input, init = {}, mode) {
        const { fetch = globalThis.fetch } = this.#options;
        const url = this.#mayShow(input instanceof Request ? input.url : input);
        const request = new Request(input instanceof Request ? input : url, { redirect: 'error', ...init });
        const headers = await this.#headers(mode, request.method, url, () => request.clone().arrayBuffer(), request.signal);
        for (const name in headers)
            request.headers.set(name, headers[name]);
        return fetch(request);
    }
    /** The headers that `fetch` would add, for another client of HTTP. A proof is good once, for this URL, body
     * and method, which is written as `fetch` sends it: `delete` as `DELETE`, `patch` as it is. */
    async headersFor(method, url, body, mode) {
        const target = this.#mayShow(url);
        return this.#headers(mode, new Request(target, { method }).method, target, () => new Response(body).arrayBuffer());
    }
    #mayShow(url) {
        const base = globalThis.location?.href ?? this.#httpUrl();
        const target = new URL(url, base);
        if (![new URL(base).origin, new URL(this.#httpUrl()).origin, ...(this.#options.fetchOrigins ?? [])].includes(target.origin)) {
            throw new CountersignError('foreign_origin', `${target.origin} may see no credentials`);
        }
        return target;
    }
    async #headers(least, method, url, body, signal) {
        const { id, mode, ticket, key } = await this.#whenReady((session) => session?.canCall, signal);
        if (mode === 'bearer') {
            if (least && least !== mode)
                throw new CountersignError('mode_too_low', 'there are no tickets');
            return { [this.#options.header ?? 'connectionId']: id };
        }
        const headers = { 'Countersign-Ticket': ticket.ticket };
        if ([least, mode].includes('proof'))
            headers['Countersign-Proof'] = await proof(key, ticket, method, url, await body());
        return headers;
    }
    /** Closes for good; how the socket ended, or null where there was none. */
    async close() {
        const session = this.#session;
        this.#finish(null);
        return session ? session.ended : null;
    }
    async #open() {
        this.#drop();
        const attempt = this.#attempt;
        const { token, tokenTimeoutMs = WAIT_MS, WebSocket = globalThis.WebSocket } = this.#options;
        this.#timer = later(tokenTimeoutMs, () => this.#noToken('no token in time'));
        this.#become('connecting');
        try {
            const value = typeof token === 'function' ? await token() : token;
            // Closed, hidden or begun anew while the token was made.
            if (attempt !== this.#attempt)
                return;
            clearTimeout(this.#timer);
            this.#opened = false;
            this.#listen(new WebSocket(...this.#target(value)));
        }
        catch (error) {
            if (attempt !== this.#attempt)
                return;
            // Whatever was thrown, even nothing.
            const { name, message } = Object(error);
            if (name === 'SecurityError')
                this.#finish(new CountersignError('insecure_context', message));
            else if (name === 'SyntaxError')
                this.#finish(new CountersignError('bad_request', message));
            else
                this.#noToken(message);
        }
    }
    #noToken(why) {
        this.#emit('error', new CountersignError('token_failed', why));
        this.#wait(null);
    }
    #target(token) {
        const { tokenQuery, tokenPrefix = 'countersign.token.' } = this.#options;
        const url = new URL(this.#url);
        const protocols = ['countersign.v1'];
        if (token !== undefined) {
            if (tokenQuery)
                url.searchParams.set(tokenQuery, token);
            else
                protocols.push(tokenPrefix + token);
        }
        return [url.href, protocols];
    }
    #listen(socket) {
        const { origin = pageOrigin(), requestTimeoutMs = 15_000, fetch = globalThis.fetch, forms = [] } = this.#options;
        const isCurrent = () => this.#session === session;
        const settings = { ...this.#options, origin, host: this.#url.host, forms: [VM, ...forms], fetch, requestTimeoutMs };
        const session = new Session(socket, settings, {
            heard: (name, value) => isCurrent() && this.#heard(name, value),
            ready: () => isCurrent() && this.#ready(session),
            failed: (error) => isCurrent() && this.#finish(error),
            closed: (code, reason) => isCurrent() && this.#lost(code, reason),
        });
        this.#session = session;
    }
    #heard(name, value) {
        if (name === 'welcome') {
            this.#opened = true;
            this.#become('open');
        }
        this.#emit(name, value);
        if (name === 'ticket')
            this.#release();
        if (name === 'publication') {
            const publication = value;
            this.#subscriptions.get(publication.channel)?.deliver(publication, guarded);
        }
    }
    #ready(session) {
        this.#readyAt = Date.now();
        this.#tokenRetried = false;
        if (session.isVerified)
            this.#become('verified');
        for (const subscription of this.#subscriptions.values())
            void this.#resubscribe(session, subscription);
        this.#release();
        this.#scheduleRefresh(session, session.expiresAt);
    }
    async #resubscribe(session, subscription) {
        const { channel } = subscription;
        try {
            await session.request('subscribe', { channel });
            subscription.accept();
        }
        catch (error) {
            const { code } = error;
            if (code === 'already_subscribed')
                subscription.accept();
            // The next socket will ask again.
            else if (code === 'timeout')
                session.abandon();
            else if (code !== 'closed' && this.#subscriptions.get(channel) === subscription) {
                this.#subscriptions.delete(channel);
                this.#emit('error', error);
                subscription.finish(error);
            }
        }
        this.#release();
    }
    /** The socket is gone, by itself or by the node. */
    #lost(code, reason) {
        this.#drop();
        if (Date.now() - this.#readyAt >= LASTED_MS)
            this.#backoff.reset();
        this.#readyAt = Infinity;
        const again = this.#options.reconnect !== false && (mayReconnect(code) || this.#mayRetryToken(code));
        this.#emit('disconnected', { code, reason, again });
        if (!again)
            return this.#finish(new CountersignError(MEANINGS[code] ?? 'closed', `closed: ${code} ${reason}`, code));
        this.#wait(retryHint(reason));
        if (!this.#opened)
            void this.#diagnose(this.#attempt);
    }
    /** With a token function a refused token is worth one more attempt: the next token is another. */
    #mayRetryToken(code) {
        if (code !== 4401 || typeof this.#options.token !== 'function' || this.#tokenRetried)
            return false;
        return (this.#tokenRetried = true);
    }
    async #diagnose(attempt) {
        const { fetch = globalThis.fetch } = this.#options;
        if (!(await isOriginRefused(this.#httpUrl(), fetch)) || attempt !== this.#attempt)
            return;
        this.#finish(new CountersignError('origin_refused', 'the node refuses pages of this origin'));
    }
    #wait(hint) {
        this.#drop();
        this.#become('waiting');
        // A listener may have closed it just now.
        if (this.#state === 'waiting' && !this.#hidden)
            this.#timer = later(this.#backoff.next(hint), () => void this.#open());
    }
    #scheduleRefresh(session, expiresAt) {
        const { token } = this.#options;
        if (this.#session !== session || typeof token !== 'function' || expiresAt === null)
            return;
        clearTimeout(this.#timer);
        const left = expiresAt * 1000 - Date.now();
        const pause = Math.max(5_000, left - Math.max(30_000, left / 10));
        this.#timer = later(pause, () => void this.#refreshToken(session, token, expiresAt));
    }
    async #refreshToken(session, token, expiresAt) {
        let until = expiresAt;
        try {
            until = (await session.request('refresh', { token: await token() })).expiresAt;
        }
        catch (error) {
            // Of a socket that is gone nobody wants to know.
            if (this.#session === session)
                this.#emit('error', error instanceof CountersignError ? error : new CountersignError('token_failed', String(error)));
        }
        if (typeof until === 'number')
            this.#scheduleRefresh(session, until);
    }
    /** A page in the back-forward cache may not hold a socket; shown again, it connects and is verified anew. */
    #onHide = () => {
        this.#hidden = true;
        this.#drop()?.close();
        this.#become('waiting');
    };
    #onShow = () => {
        if (!this.#hidden)
            return;
        this.#hidden = false;
        void this.#open();
    };
    #finish(error) {
        if (this.#state === 'closed')
            return;
        this.#error = error;
        // Before anybody is told: who waits for something new now must not wait for ever.
        this.#state = 'closed';
        globalThis.removeEventListener?.('pagehide', this.#onHide);
        globalThis.removeEventListener?.('pageshow', this.#onShow);
        this.#drop()?.close();
        for (const settle of this.#waiters)
            settle(this.#gone());
        for (const subscription of this.#subscriptions.values())
            subscription.finish(error);
        this.#subscriptions.clear();
        if (error)
            this.#emit('error', error);
        this.#emit('state', 'closed');
        for (const queue of [...this.#queues])
            queue.end();
        this.#ended(error);
    }
    /** Whatever is under way is not waited for any more; the session, if there was one. */
    #drop() {
        const session = this.#session;
        this.#session = null;
        this.#attempt += 1;
        clearTimeout(this.#timer);
        return session;
    }
    async #whenReady(may = isReady, signal, timeoutMs = this.#options.readyTimeoutMs ?? WAIT_MS) {
        if (may(this.#session))
            return this.#session;
        if (this.#state === 'closed')
            throw this.#gone();
        if (this.#waiters.size >= WAITERS_MAX)
            throw new CountersignError('overloaded', 'too many requests wait');
        return new Promise((resolve, reject) => {
            const settle = (error) => {
                if (!error && !may(this.#session))
                    return;
                clearTimeout(timer);
                this.#waiters.delete(settle);
                if (error)
                    reject(error);
                else
                    resolve(this.#session);
            };
            const timer = later(timeoutMs, () => settle(new CountersignError('timeout', 'not ready in time')));
            const abort = () => settle(new CountersignError('aborted', 'ended by the page'));
            this.#waiters.add(settle);
            signal?.addEventListener('abort', abort);
            if (signal?.aborted)
                abort();
        });
    }
    /** Those who can go on now, do. */
    #release() {
        for (const settle of this.#waiters)
            settle();
    }
    #gone() {
        return this.#error ?? new CountersignError('aborted', 'ended by the page');
    }
    #httpUrl() {
        const url = new URL(this.#url);
        url.protocol = url.protocol.replace('ws', 'http');
        url.search = '';
        return url.href;
    }
    #become(state) {
        if (this.#state === state || this.#state === 'closed')
            return;
        this.#state = state;
        this.#emit('state', state);
    }
    #emit(type, value) {
        for (const listener of this.#listeners.get(type) ?? [])
            guarded(() => listener(value));
        if (type !== 'frame')
            for (const queue of this.#queues)
                queue.push({ type, value });
    }
}
const MEANINGS = { 4401: 'token_invalid', 4403: 'challenge_failed', 4408: 'challenge_failed' };
const isReady = (session) => session?.isReady;
/** A timer; one that would be too long for the platform is cut short. */
function later(ms, work) {
    return setTimeout(work, Math.min(ms, TIMER_MAX));
}
/** A listener's fault is reported as any other, and breaks nothing here. */
function guarded(work) {
    try {
        work();
    }
    catch (error) {
        queueMicrotask(() => {
            throw error;
        });
    }
}
function unlessGone(error) {
    if (error.code !== 'closed' && error.code !== 'not_subscribed')
        throw error;
}
