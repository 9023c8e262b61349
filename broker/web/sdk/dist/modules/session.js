// One socket, from its first frame to its close: requests and their replies, and the answer to the challenge. It neither
// reconnects nor remembers; the connection does.
import { decode, encode } from './base64url.js';
import { CountersignError } from './errors.js';
import { evaluate } from './vm.js';
import { isReply, parse } from './wire.js';
const OPEN = 1;
const PENDING_MAX = 1024;
export class Session {
    id = null;
    expiresAt = null;
    /** Requests can be made. */
    isReady = false;
    isVerified = false;
    /** Resolves with the close. */
    ended;
    #end;
    #socket;
    #listener;
    #settings;
    #nonce = crypto.getRandomValues(new Uint8Array(32));
    #pending = new Map();
    #asked = 0;
    constructor(socket, settings, listener) {
        this.#socket = socket;
        this.#settings = settings;
        this.#listener = listener;
        this.ended = new Promise((resolve) => (this.#end = resolve));
        socket.onmessage = ({ data }) => this.#take(data);
        socket.onclose = ({ code, reason }) => this.#closed(code, reason);
        // What follows an error is a close, and that is heard.
        socket.onerror = () => { };
    }
    /** Sends a request; its `ok`. */
    request(action, members = {}) {
        if (this.#socket.readyState !== OPEN)
            return Promise.reject(new CountersignError('closed', 'the socket is closed'));
        if (this.#pending.size >= PENDING_MAX)
            return Promise.reject(new CountersignError('overloaded', 'too many requests wait for replies'));
        const id = (this.#asked += 1);
        return new Promise((resolve, reject) => {
            const late = () => this.#settle(id)?.reject(new CountersignError('timeout', `no reply to ${action}`));
            this.#pending.set(id, { resolve, reject, timer: setTimeout(late, this.#settings.requestTimeoutMs) });
            const text = JSON.stringify({ id, action, ...members });
            this.#listener.heard('frame', { sent: true, text });
            this.#socket.send(text);
        });
    }
    close() {
        this.#socket.close(1000);
    }
    #settle(id) {
        const pending = this.#pending.get(id);
        this.#pending.delete(id);
        clearTimeout(pending?.timer);
        return pending;
    }
    #take(data) {
        this.#listener.heard('frame', { sent: false, text: data });
        const frame = parse(data);
        if (frame === null)
            return this.#fail(new CountersignError('protocol', 'the node sent what is no frame of this protocol'));
        if (isReply(frame))
            return this.#reply(frame);
        const welcome = frame.event === 'welcome' ? frame : null;
        if (welcome)
            this.id = welcome.connectionId;
        this.#listener.heard(frame.event, frame);
        if (welcome)
            this.#greet(welcome);
        if (frame.event === 'challenge')
            this.#answer(frame);
        if (frame.event === 'verified')
            this.#verified(frame);
        if (frame.event === 'challenge_failed')
            this.#fail(new CountersignError('challenge_failed', 'the challenge was not passed'));
    }
    #reply({ id, ok, error }) {
        const pending = this.#settle(id);
        if (ok)
            pending?.resolve(ok);
        else if (error)
            pending?.reject(new CountersignError(error.code, error.message));
    }
    #greet({ challenge, expiresAt }) {
        this.expiresAt = expiresAt;
        if (challenge === 'off')
            return this.#ready();
        this.#insist(this.request('hello', { forms: ['vm'], nonce: encode(this.#nonce) }));
    }
    /** Runs the program at once: no timer that a background tab would delay. One that cannot be run is a failure. */
    #answer({ challenge, epoch, form, nonce, program }) {
        const { origin } = this.#settings;
        const [bytes, serverNonce, connection] = [program, nonce, this.id ?? ''].map(decode);
        if (form !== 'vm' || !bytes || !serverNonce || !connection) {
            return this.#fail(new CountersignError('protocol', 'the node sent a challenge that this client did not offer to run'));
        }
        try {
            const lanes = evaluate(bytes, { serverNonce, clientNonce: this.#nonce, connection, thumbprint: null, origin });
            const answer = { challenge, epoch, origin, lanes };
            this.#listener.heard('answer', answer);
            this.#insist(this.request('answer', answer));
        }
        catch (error) {
            this.#fail(new CountersignError('protocol', `the program was refused: ${error.message}`));
        }
    }
    #verified({ connectionId }) {
        if (connectionId !== this.id)
            return this.#fail(new CountersignError('protocol', 'the node verified another connection'));
        this.isVerified = true;
        this.#ready();
    }
    #ready() {
        this.isReady = true;
        this.#listener.ready();
    }
    /** A step without which there is nothing to be had here. That the socket closed, its close will tell. */
    #insist(step) {
        step.catch((error) => {
            if (error.code === 'timeout')
                this.#abandon();
            else if (error.code !== 'closed')
                this.#fail(error);
        });
    }
    /** Nobody is there any more: as good as lost, and not waited for. */
    #abandon() {
        this.#socket.onmessage = null;
        this.#socket.onclose = null;
        this.close();
        this.#closed(1006, 'no reply');
    }
    #fail(error) {
        this.#listener.failed(error);
        this.close();
    }
    #closed(code, reason) {
        this.isReady = false;
        for (const id of [...this.#pending.keys()]) {
            this.#settle(id)?.reject(new CountersignError('closed', `closed: ${code} ${reason}`, code));
        }
        this.#listener.closed(code, reason);
        this.#end({ code, reason });
    }
}
