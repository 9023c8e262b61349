// One socket, from its first frame to its close: requests and their replies, and the answer to the challenge. It neither
// reconnects nor remembers; the connection does.
import { answer } from './answer.js';
import { encode } from './base64url.js';
import { CountersignError } from './errors.js';
import { pageKey } from './key.js';
import { isReply, parse } from './wire.js';
const OPEN = 1;
const PENDING_MAX = 1024;
export class Session {
    id = null;
    expiresAt = null;
    /** Requests can be made. */
    isReady = false;
    isVerified = false;
    /** What calls must show. It rises, and never falls. */
    mode;
    key = null;
    /** The newest. */
    ticket = null;
    /** Resolves with the close. */
    ended;
    #end;
    #socket;
    #listener;
    #settings;
    #nonce = crypto.getRandomValues(new Uint8Array(32));
    #pending = new Map();
    #asked = 0;
    #timer;
    #hello = '';
    #epoch = -1;
    #ticketEnds = 0;
    constructor(socket, settings, listener) {
        this.#socket = socket;
        this.#settings = settings;
        this.mode = settings.mode ?? 'bearer';
        this.#listener = listener;
        this.ended = new Promise((resolve) => (this.#end = resolve));
        socket.onmessage = ({ data }) => this.#take(data);
        socket.onclose = ({ code, reason }) => this.#closed(code, reason);
        // What follows an error is a close, and that is heard: at once, and with its code. There are sockets that say no more
        // than this of a handshake that was refused.
        socket.onerror = () => this.#within(0);
        this.#within(settings.requestTimeoutMs);
    }
    /** Is there something to show for a call? Counted from when a ticket came: nobody's clock has to be right. */
    get canCall() {
        return this.isReady && (this.mode === 'bearer' || Date.now() < this.#ticketEnds);
    }
    /** Sends a request; its `ok`. */
    async request(action, members = {}) {
        if (this.#socket.readyState !== OPEN)
            throw new CountersignError('closed', 'the socket is closed');
        if (this.#pending.size >= PENDING_MAX)
            throw new CountersignError('overloaded', 'too many requests wait');
        const id = (this.#asked += 1);
        // What cannot be written or sent throws here, and leaves nothing that waits.
        const text = JSON.stringify({ id, action, ...members });
        if (action === 'hello')
            this.#hello ||= text;
        this.#listener.heard('frame', { sent: true, text });
        this.#socket.send(text);
        return new Promise((resolve, reject) => {
            const late = () => this.#settle(id)?.reject(new CountersignError('timeout', `no reply to ${action}`));
            this.#pending.set(id, { resolve, reject, timer: setTimeout(late, this.#settings.requestTimeoutMs) });
        });
    }
    close() {
        // Nor is the end waited for without end, of a node that is not there to agree to it.
        this.#within(this.#settings.requestTimeoutMs);
        this.#socket.close(1000);
    }
    /** Nobody is there any more: as good as lost, and not waited for. */
    abandon() {
        const socket = this.#socket;
        socket.onmessage = socket.onclose = null;
        // Some throw the errors that nobody hears.
        socket.onerror = () => { };
        this.close();
        this.#closed(1006, 'no reply');
    }
    /** Until it is ready, silence is not waited for longer than this. */
    #within(ms) {
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => this.abandon(), ms);
    }
    #settle(id) {
        const pending = this.#pending.get(id);
        this.#pending.delete(id);
        clearTimeout(pending?.timer);
        return pending;
    }
    #take(data) {
        this.#listener.heard('frame', { sent: false, text: data });
        if (!this.isReady)
            this.#within(this.#settings.requestTimeoutMs);
        const frame = parse(data);
        if (frame === null)
            return this.#fail(new CountersignError('protocol', 'no frame of this protocol'));
        if (isReply(frame))
            return this.#reply(frame);
        const { event } = frame;
        if (event === 'welcome')
            this.id = frame.connectionId;
        if (event === 'ticket') {
            this.ticket = frame;
            this.#ticketEnds = Date.now() + this.ticket.expiresInMs;
        }
        this.#listener.heard(event, frame);
        if (event === 'welcome')
            void this.#greet(frame);
        if (event === 'challenge')
            void this.#answer(frame);
        if (event === 'verified')
            this.#verified(frame);
        if (event === 'challenge_failed')
            this.#fail(new CountersignError('challenge_failed', 'the challenge was not passed'));
    }
    #reply({ id, ok, error }) {
        const pending = this.#settle(id);
        if (ok)
            pending?.resolve(ok);
        else if (error)
            pending?.reject(new CountersignError(error.code, error.message));
    }
    async #greet({ challenge, expiresAt }) {
        const { forms, mode, key } = this.#settings;
        this.expiresAt = expiresAt;
        await this.#insist(async () => {
            if (challenge === 'off') {
                if (this.mode !== 'bearer')
                    throw new Error('there are no tickets');
                return this.#ready();
            }
            this.key = await pageKey(key);
            await this.request('hello', { forms: forms.map(({ name }) => name), nonce: encode(this.#nonce), key: encode(this.key.point), mode });
        });
    }
    /** Answers at once: no timer that a background tab would delay. Later epochs are answered as the first one was. */
    async #answer(challenge) {
        await this.#insist(async () => {
            const { id, key, mode } = this;
            if (!key || challenge.epoch <= this.#epoch)
                throw new Error('unexpected challenge');
            this.#epoch = challenge.epoch;
            this.#within(this.#settings.requestTimeoutMs + challenge.answerMs);
            const members = await answer(challenge, { ...this.#settings, mode, key, hello: this.#hello, clientNonce: this.#nonce, connectionId: id });
            this.mode = challenge.mode;
            this.#listener.heard('answer', members);
            await this.request('answer', members);
        });
    }
    #verified({ connectionId }) {
        if (connectionId !== this.id)
            return this.#fail(new CountersignError('protocol', 'that is another connection'));
        this.isVerified = true;
        this.#ready();
    }
    #ready() {
        clearTimeout(this.#timer);
        if (this.isReady)
            return;
        this.isReady = true;
        this.#listener.ready();
    }
    /** A step without which there is nothing to be had here. That the socket closed, its close will tell; silence has its own end. */
    async #insist(step) {
        try {
            await step();
        }
        catch (error) {
            const { code, message } = Object(error);
            if (code !== 'closed' && code !== 'timeout')
                this.#fail(error instanceof CountersignError ? error : new CountersignError('challenge_unsupported', message));
        }
    }
    #fail(error) {
        this.#listener.failed(error);
        this.close();
    }
    #closed(code, reason) {
        this.isReady = false;
        clearTimeout(this.#timer);
        for (const id of [...this.#pending.keys()]) {
            this.#settle(id)?.reject(new CountersignError('closed', `closed: ${code} ${reason}`, code));
        }
        this.#listener.closed(code, reason);
        this.#end({ code, reason });
    }
}
