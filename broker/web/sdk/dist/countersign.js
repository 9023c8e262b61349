/* countersign 0.1.0, Apache-2.0 */

// src/base64url.ts
function encode(bytes2) {
  return btoa(String.fromCharCode(...bytes2)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
function decode(text) {
  try {
    const bytes2 = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (unit) => unit.charCodeAt(0));
    return encode(bytes2) === text ? bytes2 : null;
  } catch {
    return null;
  }
}

// src/errors.ts
var CountersignError = class extends Error {
  name = "CountersignError";
  code;
  /** Of the socket, where its end is the reason. */
  closeCode;
  constructor(code, message, closeCode = null) {
    super(message);
    this.code = code;
    this.closeCode = closeCode;
  }
};

// src/transcript.ts
function transcript(...fields) {
  return Uint8Array.from(
    fields.flatMap((field, tag) => {
      const bytes2 = typeof field === "string" ? utf8(field) : field ?? [];
      return [tag, ...integer(bytes2.length, 4), ...bytes2];
    })
  );
}
function integer(value, bytes2) {
  return Array.from({ length: bytes2 }, (_, place) => value / 2 ** (8 * (bytes2 - 1 - place)) & 255);
}
function utf8(text) {
  return new TextEncoder().encode(text);
}
async function sha256(data) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", typeof data === "string" ? utf8(data) : data));
}
async function confirm(hash, lanes, data) {
  const HMAC = { name: "HMAC", hash: "SHA-256" };
  const key = await sha256(transcript("countersign/k/v1", hash, lanes.flatMap((lane) => integer(lane >>> 0, 4))));
  const imported = await crypto.subtle.importKey("raw", key, HMAC, false, ["sign"]);
  return new Uint8Array(await crypto.subtle.sign(HMAC, imported, data));
}

// src/key.ts
var P256 = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
var own;
var counts = /* @__PURE__ */ new WeakMap();
async function pageKey(supplied) {
  const { subtle } = crypto;
  if (!subtle) throw new CountersignError("insecure_context", "page is not secure");
  const { privateKey, publicKey } = supplied ?? await (own ??= subtle.generateKey(P256, false, ["sign"]));
  const point = new Uint8Array(await subtle.exportKey("raw", publicKey));
  return {
    point,
    thumbprint: await sha256(point),
    sign: async (data) => new Uint8Array(await subtle.sign(P256, privateKey, data)),
    count() {
      const count = (counts.get(privateKey) ?? 0) + 1;
      counts.set(privateKey, count);
      return count;
    }
  };
}
async function verifies(point, signature, data) {
  const { subtle } = crypto;
  return subtle.verify(P256, await subtle.importKey("raw", point, P256, false, ["verify"]), signature, data);
}

// src/vm.ts
var ProgramError = class extends Error {
  name = "ProgramError";
};
var VERSION = 1;
var OPERATIONS = 21;
var REGISTERS = 32;
var HEADER = 1 + OPERATIONS + REGISTERS;
var OPERATIONS_MAX = 1024;
var FUEL_MAX = 4096;
var ORIGIN_MAX = 512;
var LANES = 8;
var CONST = 0;
var CLZ = 3;
var ADD = 4;
var EQ = 12;
var SHL = 13;
var XSH = 17;
var MUL_ODD = 18;
var SELECT = 19;
var FOLD = 20;
var refuse = (why) => {
  throw new ProgramError(why);
};
function evaluate(program, tapes) {
  const words = readTapes(tapes);
  const { steps, lanes } = decode2(program, words.length);
  const cost = (fuel, { op, a }) => fuel + 1 + (op === FOLD ? words[a].length : 0);
  if (steps.reduce(cost, 0) > FUEL_MAX) refuse("fuel");
  const registers = new Int32Array(REGISTERS);
  for (const step of steps) registers[step.dst] = compute(step, registers, words);
  return lanes.map((place) => registers[place]);
}
function readTapes({ serverNonce, clientNonce, connection, thumbprint, origin, file }) {
  if (origin.length > ORIGIN_MAX) refuse("origin");
  const units = Int32Array.from(origin, (unit) => unit > "\x7F" ? refuse("origin") : unit.charCodeAt(0));
  const tape = (bytes2, length) => {
    if (bytes2 === null) return new Int32Array(0);
    if (bytes2.length !== length) refuse("tape");
    const view = new DataView(bytes2.buffer, bytes2.byteOffset, length);
    return Int32Array.from({ length: length / 4 }, (_, word) => view.getInt32(4 * word, false));
  };
  const words = [tape(serverNonce, 32), tape(clientNonce, 32), tape(connection, 16), tape(thumbprint, 32), units];
  return file ? [...words, tape(file, 32)] : words;
}
function decode2(program, tapes) {
  if (program.length < 1) refuse("short");
  if (program[0] !== VERSION) refuse("version");
  if (program.length < HEADER) refuse("short");
  const count = (program.length - HEADER) / 8;
  if (count > OPERATIONS_MAX) refuse("long");
  const operations = /* @__PURE__ */ new Map();
  program.subarray(1, 1 + OPERATIONS).forEach((code, place) => operations.set(code, place));
  if (operations.size !== OPERATIONS) refuse("opcodes");
  const registers = [...program.subarray(1 + OPERATIONS, HEADER)];
  if (new Set(registers).size !== REGISTERS || registers.some(isNoRegister)) refuse("registers");
  if (!Number.isInteger(count)) refuse("ragged");
  const view = new DataView(program.buffer, program.byteOffset, program.length);
  const steps = [];
  for (let at = HEADER; at < program.length; at += 8) {
    const op = operations.get(view.getUint8(at)) ?? refuse("opcode");
    steps.push(check(tapes, { op, dst: view.getUint8(at + 1), a: view.getUint8(at + 2), b: view.getUint8(at + 3), imm: view.getInt32(at + 4, false) }));
  }
  return { steps, lanes: registers.slice(0, LANES) };
}
var isNoRegister = (number) => number < 0 || number >= REGISTERS;
function check(tapes, step) {
  const { op, dst, a, b, imm } = step;
  const isUnary = op > CONST && op < ADD;
  const isShift = op >= SHL && op <= XSH;
  const isBinary = op >= ADD && op <= EQ;
  const shift = isShift ? imm : op === FOLD ? b : 1;
  const unused = op === CONST ? a | b : isUnary ? b | imm : isBinary ? imm : isShift || op === MUL_ODD ? b : 0;
  if (unused !== 0) refuse("unused");
  if (isNoRegister(dst)) refuse("register");
  if (op === FOLD ? a >= tapes : isNoRegister(a)) refuse(op === FOLD ? "tape" : "register");
  if ((isBinary || op === SELECT) && isNoRegister(b)) refuse("register");
  if (op === SELECT && isNoRegister(imm)) refuse("register");
  if (shift < 1 || shift > 31) refuse("shift");
  if ((op === MUL_ODD || op === FOLD) && (imm & 1) === 0) refuse("multiplier");
  return step;
}
function compute({ op, dst, a, b, imm }, r, tapes) {
  const x = r[a];
  const y = r[b];
  switch (op) {
    case CONST:
      return imm;
    case 1:
      return -x | 0;
    case 2:
      return ~x;
    case CLZ:
      return Math.clz32(x);
    case ADD:
      return x + y | 0;
    case 5:
      return x - y | 0;
    case 6:
      return Math.imul(x, y);
    case 7:
      return x ^ y;
    case 8:
      return x & y;
    case 9:
      return x | y;
    case 10:
      return x < y ? 1 : 0;
    case 11:
      return x >>> 0 < y >>> 0 ? 1 : 0;
    case EQ:
      return x === y ? 1 : 0;
    case SHL:
      return x << imm;
    case 14:
      return x >> imm;
    case 15:
      return x >>> imm | 0;
    case 16:
      return x << imm | x >>> 32 - imm;
    case XSH:
      return x ^ x >>> imm;
    case MUL_ODD:
      return Math.imul(x, imm);
    case SELECT:
      return r[imm] !== 0 ? x : y;
    default:
      return fold(r[dst], tapes[a], b, imm);
  }
}
function fold(start, tape, by, odd) {
  const step = (x, word) => Math.imul((x << by | x >>> 32 - by) ^ word, odd);
  return tape.reduce(step, start) ^ tape.length;
}

// src/wire.ts
var MODES = ["bearer", "ticket", "proof"];
var SHAPES = {
  welcome: "connectionId challenge subject? #expiresAt?",
  challenge: "challenge form nonce program mode #epoch #answerMs",
  ticket: "ticket nonce #expiresInMs",
  verified: "connectionId",
  publication: "channel"
};
var isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
var has = (frame, member) => {
  const value = frame[member.replace(/\W/g, "")];
  return typeof value === (member.startsWith("#") ? "number" : "string") || value === null && member.endsWith("?");
};
function parse(text) {
  let frame;
  try {
    frame = typeof text === "string" ? JSON.parse(text) : null;
  } catch {
    return null;
  }
  if (!isObject(frame)) return null;
  if (typeof frame.event === "string") {
    const members = Object.hasOwn(SHAPES, frame.event) ? SHAPES[frame.event].split(" ") : [];
    return members.every((member) => has(frame, member)) ? frame : null;
  }
  const { id, ok, error } = frame;
  const told = isObject(ok) || isObject(error) && typeof error.code === "string" && typeof error.message === "string";
  return typeof id === "number" && told ? frame : null;
}
var isReply = (frame) => !("event" in frame);

// src/work.ts
var BATCH = 256;
var PART_MAX = 65536;
async function solve({ bits, count }, bound, until) {
  const solutions = [];
  for (let start = 0; solutions.length < count; start += BATCH) {
    if (Date.now() > until) throw new Error("the puzzles take too long");
    const puzzle = transcript("countersign/work/v1", ...bound, [solutions.length], integer(start, 4));
    const digests = await Promise.all(
      Array.from({ length: BATCH }, (_, place) => {
        puzzle[puzzle.length - 1] = place;
        return sha256(puzzle.slice());
      })
    );
    const found = digests.findIndex(({ buffer }) => new DataView(buffer).getUint32(0) < 2 ** (32 - bits));
    if (found >= 0) {
      solutions.push(start + found);
      start = -BATCH;
    }
  }
  return solutions;
}
async function readFile({ path, offset, length }, { origin, files, fetch }) {
  const { href } = new URL(path, origin);
  if (!files || !href.startsWith(origin + files) || /%2f|%5c/i.test(href) || length > PART_MAX) throw new Error("there is no such file");
  const { ok, status, body } = await fetch(href, { credentials: "omit", redirect: "error", headers: { Range: `bytes=${offset}-${offset + length - 1}` } });
  const part = new Uint8Array(length);
  const reader = body.getReader();
  for (let at = status === 206 ? 0 : -offset; at < length; ) {
    const { value } = await reader.read();
    if (!ok || !value) throw new Error("there is no such file");
    const from = Math.max(0, -at);
    part.set(value.subarray(from, length - at), at + from);
    at += value.length;
  }
  reader.cancel().catch(() => {
  });
  return sha256(part);
}

// src/answer.ts
var VM = { name: "vm", run: async (program, tapes) => evaluate(bytes(program), tapes) };
async function answer(challenge, situation) {
  const { epoch, form, program, mode, answerMs, work, file } = challenge;
  const { key, host, origin, pins, forms, clientNonce } = situation;
  const { thumbprint } = key;
  const until = Date.now() + answerMs;
  const runner = forms.find(({ name }) => name === form) ?? refuse2(`form ${form} was not offered`);
  if (MODES.indexOf(mode) < MODES.indexOf(situation.mode)) refuse2(`mode ${mode} is too low`);
  const id = bytes(challenge.challenge);
  const serverNonce = bytes(challenge.nonce);
  const connection = bytes(situation.connectionId);
  const when = integer(epoch, 4);
  const hello = await sha256(situation.hello);
  const hash = runner.elsewhere ? bytes(challenge.programHash ?? "") : await sha256(program);
  const asked = [work && [work.bits, work.count], file && [...utf8(file.path), 0, ...integer(file.offset, 8), ...integer(file.length, 4)]];
  if (runner.pinned || pins) {
    const signed = (signer) => transcript("countersign/frame/v1", signer, host, hello, connection, id, when, form, serverNonce, hash, mode, integer(answerMs, 4), ...asked);
    if (!await isSigned(challenge.signature, pins, signed).catch(() => false)) throw new CountersignError("program_unsigned", "no pinned key has signed the program");
  }
  const ancestors = globalThis.location?.ancestorOrigins;
  const topOrigin = ancestors?.[ancestors.length - 1];
  const T = transcript(
    "countersign/answer/v1",
    "countersign.v1",
    form,
    host,
    connection,
    id,
    when,
    hello,
    serverNonce,
    hash,
    origin,
    topOrigin,
    thumbprint,
    mode,
    ...asked
  );
  const tapes = { serverNonce, clientNonce, connection, thumbprint, origin, file: file && await readFile(file, situation) };
  const result = await runner.run(program, tapes, T);
  const mac = result instanceof Uint8Array ? result : await confirm(hash, result, T);
  return {
    challenge: challenge.challenge,
    epoch,
    origin,
    topOrigin,
    mac: encode(mac),
    signature: encode(await key.sign(transcript("countersign/bind/v1", T, mac))),
    work: work && await solve(work, [id, serverNonce, thumbprint], until)
  };
}
async function isSigned(signature = "", pins = [], signed) {
  for (const pin of pins) {
    const point = bytes(pin);
    if (await verifies(point, bytes(signature), signed(encode(await sha256(point))))) return true;
  }
  return false;
}
function bytes(text) {
  return decode(text) ?? refuse2("no bytes");
}
function refuse2(why) {
  throw new Error(why);
}

// src/backoff.ts
var Backoff = class {
  #attempts = 0;
  #options;
  #random;
  constructor(options, random) {
    this.#options = options;
    this.#random = random;
  }
  /** The next pause. A hint of the node is waited for in full, with a tenth of jitter: it is spread already. */
  next(hint) {
    const { first = 500, max = 3e4 } = this.#options;
    const range = Math.min(max, first * 2 ** Math.min(this.#attempts++, 30));
    return hint === null ? range * (0.5 + this.#random() / 2) : hint * (1 + this.#random() / 10);
  }
  /** A connection lasted: the next pause is the first again. */
  reset() {
    this.#attempts = 0;
  }
};

// src/close.ts
var RECONNECT = [1001, 1012, 1013, 4500, 1005, 1006, 1011, 1014, 1015];
var HINT_MAX = 6e5;
function mayReconnect(code) {
  return RECONNECT.includes(code);
}
function retryHint(reason) {
  const found = /reconnect in (\d{1,9}) ms$/.exec(reason);
  return found && Math.min(Number(found[1]), HINT_MAX);
}

// src/page.ts
function pageOrigin() {
  if (globalThis.location === void 0) return "";
  return globalThis.origin === "null" ? "null" : globalThis.location.origin;
}
function isSecure({ protocol, hostname }) {
  const isLocal = /^(localhost|.+\.localhost|127(\.\d+){3}|\[::1\])$/.test(hostname);
  return globalThis.isSecureContext !== false && (protocol === "wss:" || isLocal);
}
async function isOriginRefused(url, fetch) {
  const here = globalThis.location;
  if (here === void 0 || here.origin === new URL(url).origin) return false;
  const reaches = (mode) => fetch(url, { mode, credentials: "omit", cache: "no-store" }).then(() => true, () => false);
  return !await reaches("cors") && await reaches("no-cors");
}

// src/proof.ts
async function proof(key, { ticket, nonce }, method, { href }, body) {
  const count = key.count();
  const digest = body.byteLength > 0 ? await sha256(new Uint8Array(body)) : null;
  const target = href.replace(/^\w+:..|#.*/g, "");
  const signed = transcript("countersign/proof/v1", method, target, await sha256(ticket), integer(count, 8), decode(nonce), digest);
  return `v1.${count}.${nonce}.${digest ? encode(digest) : ""}.${encode(await key.sign(signed))}`;
}

// src/queue.ts
var Queue = class {
  #values = [];
  #waiting = [];
  /** Of a queue that has ended: the error that is still to be told, or null. */
  #end;
  #max;
  #release;
  /** `release` is called once, when nobody iterates any more. */
  constructor(max, release) {
    this.#max = max;
    this.#release = release;
  }
  push(value) {
    if (this.#end !== void 0) return;
    const take = this.#waiting.shift();
    if (take) take({ value, done: false });
    else if (this.#values.push(value) > this.#max) {
      this.#values = [];
      this.end(new CountersignError("slow_consumer", `more than ${this.#max} values were not taken`));
    }
  }
  /** What is queued is still given out, then the error, once, and the end. */
  end(error = null) {
    if (this.#end !== void 0) return;
    this.#end = error;
    this.#release();
    for (const take of this.#waiting.splice(0)) take(this.next());
  }
  async next() {
    if (this.#values.length > 0) return { value: this.#values.shift(), done: false };
    const error = this.#end;
    if (error === void 0) return new Promise((resolve) => this.#waiting.push(resolve));
    this.#end = null;
    if (error) throw error;
    return { value: void 0, done: true };
  }
  return() {
    this.#values = [];
    this.end();
    this.#end = null;
    return this.next();
  }
  [Symbol.asyncIterator]() {
    return this;
  }
};

// src/session.ts
var OPEN = 1;
var PENDING_MAX = 1024;
var Session = class {
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
  #pending = /* @__PURE__ */ new Map();
  #asked = 0;
  #timer;
  #hello = "";
  #epoch = -1;
  #ticketEnds = 0;
  constructor(socket, settings, listener) {
    this.#socket = socket;
    this.#settings = settings;
    this.mode = settings.mode ?? "bearer";
    this.#listener = listener;
    this.ended = new Promise((resolve) => this.#end = resolve);
    socket.onmessage = ({ data }) => this.#take(data);
    socket.onclose = ({ code, reason }) => this.#closed(code, reason);
    socket.onerror = () => this.#within(0);
    this.#within(settings.requestTimeoutMs);
  }
  /** Is there something to show for a call? Counted from when a ticket came: nobody's clock has to be right. */
  get canCall() {
    return this.isReady && (this.mode === "bearer" || Date.now() < this.#ticketEnds);
  }
  /** Sends a request; its `ok`. */
  async request(action, members = {}) {
    if (this.#socket.readyState !== OPEN) throw new CountersignError("closed", "the socket is closed");
    if (this.#pending.size >= PENDING_MAX) throw new CountersignError("overloaded", "too many requests wait");
    const id = this.#asked += 1;
    const text = JSON.stringify({ id, action, ...members });
    if (action === "hello") this.#hello ||= text;
    this.#listener.heard("frame", { sent: true, text });
    this.#socket.send(text);
    return new Promise((resolve, reject) => {
      const late = () => this.#settle(id)?.reject(new CountersignError("timeout", `no reply to ${action}`));
      this.#pending.set(id, { resolve, reject, timer: setTimeout(late, this.#settings.requestTimeoutMs) });
    });
  }
  close() {
    this.#within(this.#settings.requestTimeoutMs);
    this.#socket.close(1e3);
  }
  /** Nobody is there any more: as good as lost, and not waited for. */
  abandon() {
    const socket = this.#socket;
    socket.onmessage = socket.onclose = null;
    socket.onerror = () => {
    };
    this.close();
    this.#closed(1006, "no reply");
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
    this.#listener.heard("frame", { sent: false, text: data });
    if (!this.isReady) this.#within(this.#settings.requestTimeoutMs);
    const frame = parse(data);
    if (frame === null) return this.#fail(new CountersignError("protocol", "no frame of this protocol"));
    if (isReply(frame)) return this.#reply(frame);
    const { event } = frame;
    if (event === "welcome") this.id = frame.connectionId;
    if (event === "ticket") {
      this.ticket = frame;
      this.#ticketEnds = Date.now() + this.ticket.expiresInMs;
    }
    this.#listener.heard(event, frame);
    if (event === "welcome") void this.#greet(frame);
    if (event === "challenge") void this.#answer(frame);
    if (event === "verified") this.#verified(frame);
    if (event === "challenge_failed") this.#fail(new CountersignError("challenge_failed", "the challenge was not passed"));
  }
  #reply({ id, ok, error }) {
    const pending = this.#settle(id);
    if (ok) pending?.resolve(ok);
    else if (error) pending?.reject(new CountersignError(error.code, error.message));
  }
  async #greet({ challenge, expiresAt }) {
    const { forms, mode, key } = this.#settings;
    this.expiresAt = expiresAt;
    await this.#insist(async () => {
      if (challenge === "off") {
        if (this.mode !== "bearer") throw new Error("there are no tickets");
        return this.#ready();
      }
      this.key = await pageKey(key);
      await this.request("hello", { forms: forms.map(({ name }) => name), nonce: encode(this.#nonce), key: encode(this.key.point), mode });
    });
  }
  /** Answers at once: no timer that a background tab would delay. Later epochs are answered as the first one was. */
  async #answer(challenge) {
    await this.#insist(async () => {
      const { id, key, mode } = this;
      if (!key || challenge.epoch <= this.#epoch) throw new Error("unexpected challenge");
      this.#epoch = challenge.epoch;
      this.#within(this.#settings.requestTimeoutMs + challenge.answerMs);
      const members = await answer(challenge, { ...this.#settings, mode, key, hello: this.#hello, clientNonce: this.#nonce, connectionId: id });
      this.mode = challenge.mode;
      this.#listener.heard("answer", members);
      await this.request("answer", members);
    });
  }
  #verified({ connectionId }) {
    if (connectionId !== this.id) return this.#fail(new CountersignError("protocol", "that is another connection"));
    this.isVerified = true;
    this.#ready();
  }
  #ready() {
    clearTimeout(this.#timer);
    if (this.isReady) return;
    this.isReady = true;
    this.#listener.ready();
  }
  /** A step without which there is nothing to be had here. That the socket closed, its close will tell; silence has its own end. */
  async #insist(step) {
    try {
      await step();
    } catch (error) {
      const { code, message } = Object(error);
      if (code !== "closed" && code !== "timeout") this.#fail(error instanceof CountersignError ? error : new CountersignError("challenge_unsupported", message));
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
      this.#settle(id)?.reject(new CountersignError("closed", `closed: ${code} ${reason}`, code));
    }
    this.#listener.closed(code, reason);
    this.#end({ code, reason });
  }
};

// src/subscription.ts
var Subscription = class {
  channel;
  /** Settled by the node's first answer. */
  accepted;
  #handlers = /* @__PURE__ */ new Set();
  #queues = /* @__PURE__ */ new Set();
  #queueMax;
  #end;
  #ended;
  /** @internal Has the node answered, or will it not any more? */
  isSettled = false;
  #settle;
  /** Made by `subscribe`. */
  constructor(channel, queueMax, end) {
    this.channel = channel;
    this.#queueMax = queueMax;
    this.#end = end;
    this.accepted = new Promise((resolve, reject) => this.#settle = { resolve, reject });
    this.accepted.catch(() => {
    });
  }
  /** Calls back with every publication from now on; call the result to end that. */
  on(handler) {
    this.#handlers.add(handler);
    return () => void this.#handlers.delete(handler);
  }
  /** Everything published from now on. Falling behind ends with `slow_consumer`. */
  [Symbol.asyncIterator]() {
    const queue = new Queue(this.#queueMax, () => void this.#queues.delete(queue));
    this.#queues.add(queue);
    if (this.#ended !== void 0) queue.end(this.#ended);
    return queue;
  }
  /** The same as the connection's `unsubscribe`. */
  unsubscribe() {
    return this.#end();
  }
  /** @internal */
  accept() {
    this.isSettled = true;
    this.#settle.resolve();
  }
  /** @internal */
  deliver(publication, call) {
    const data = publication.data ?? publication.binary;
    for (const handler of this.#handlers) call(() => handler(data, publication));
    for (const queue of this.#queues) queue.push(data);
  }
  /** @internal */
  finish(error) {
    this.#ended = error;
    if (error) this.#settle.reject(error);
    this.accept();
    for (const queue of [...this.#queues]) queue.end(error);
  }
};

// src/connection.ts
var WAITERS_MAX = 1024;
var LASTED_MS = 1e4;
var TIMER_MAX = 2147483647;
var WAIT_MS = 6e4;
var Connection = class {
  /** Resolves once, when the connection is closed for good: null where `close` was called. */
  closed;
  #state = "connecting";
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
  #waiters = /* @__PURE__ */ new Set();
  #url;
  #options;
  #backoff;
  #subscriptions = /* @__PURE__ */ new Map();
  #listeners = /* @__PURE__ */ new Map();
  #queues = /* @__PURE__ */ new Set();
  /** Made by `connect`. */
  constructor(url, options) {
    this.#url = new URL(url, globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    this.#options = options;
    if (!options.allowInsecure && !isSecure(this.#url)) {
      throw new CountersignError("insecure_context", "page or URL is not secure");
    }
    if (!options.pins && options.forms?.some(({ pinned }) => pinned)) {
      throw new CountersignError("program_unsigned", "programs of this form need pinned keys");
    }
    this.#backoff = new Backoff(options.backoff ?? {}, options.random ?? Math.random);
    this.closed = new Promise((resolve) => this.#ended = resolve);
    globalThis.addEventListener?.("pagehide", this.#onHide);
    globalThis.addEventListener?.("pageshow", this.#onShow);
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
    await this.#whenReady(isReady, void 0, timeoutMs);
  }
  /** Calls back on `state`, `welcome`, `challenge`, `answer`, `verified`, `ticket`, `publication`, `message`,
   * `disconnected`, `error`, `frame` and whatever else the node pushes; call the result to end that. */
  on(type, listener) {
    const listeners = this.#listeners.get(type) ?? /* @__PURE__ */ new Set();
    this.#listeners.set(type, listeners.add(listener));
    return () => void listeners.delete(listener);
  }
  /** Everything that happens from now on but frames, until the connection is closed. */
  events() {
    const queue = new Queue(this.#options.queueMax ?? 1024, () => void this.#queues.delete(queue));
    if (this.#state === "closed") queue.end();
    else this.#queues.add(queue);
    return queue;
  }
  /** Subscribes, and again after every reconnection; resolves when the node has agreed, and is given up where it does not in time. */
  async subscribe(channel, handler) {
    let subscription = this.#subscriptions.get(channel);
    if (!subscription) {
      subscription = new Subscription(channel, this.#options.queueMax ?? 1024, () => this.unsubscribe(channel));
      this.#subscriptions.set(channel, subscription);
      if (this.#session?.isReady) void this.#resubscribe(this.#session, subscription);
    }
    const off = handler && subscription.on(handler);
    try {
      await this.#whenReady(() => subscription.isSettled);
      await subscription.accepted;
    } catch (error) {
      off?.();
      if (!subscription.isSettled) {
        subscription.finish(error);
        this.unsubscribe(channel).catch(() => {
        });
      }
      throw error;
    }
    return subscription;
  }
  /** Ends a subscription. */
  async unsubscribe(channel) {
    const subscription = this.#subscriptions.get(channel);
    if (!subscription) return;
    this.#subscriptions.delete(channel);
    subscription.finish(null);
    this.#release();
    if (this.#session?.isReady) await this.#session.request("unsubscribe", { channel }).catch(unlessGone);
  }
  /** Publishes a JSON value; with `exclude`, to all but this connection. */
  async publish(channel, data, { exclude = false } = {}) {
    await this.request("publish", { channel, data, exclude });
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
    const request = new Request(input instanceof Request ? input : url, { redirect: "error", ...init });
    const headers = await this.#headers(mode, request.method, url, () => request.clone().arrayBuffer(), request.signal);
    for (const name in headers) request.headers.set(name, headers[name]);
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
    if (![new URL(base).origin, new URL(this.#httpUrl()).origin, ...this.#options.fetchOrigins ?? []].includes(target.origin)) {
      throw new CountersignError("foreign_origin", `${target.origin} may see no credentials`);
    }
    return target;
  }
  async #headers(least, method, url, body, signal) {
    const { id, mode, ticket, key } = await this.#whenReady((session) => session?.canCall, signal);
    if (mode === "bearer") {
      if (least && least !== mode) throw new CountersignError("mode_too_low", "there are no tickets");
      return { [this.#options.header ?? "connectionId"]: id };
    }
    const headers = { "Countersign-Ticket": ticket.ticket };
    if ([least, mode].includes("proof")) headers["Countersign-Proof"] = await proof(key, ticket, method, url, await body());
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
    this.#timer = later(tokenTimeoutMs, () => this.#noToken("no token in time"));
    this.#become("connecting");
    try {
      const value = typeof token === "function" ? await token() : token;
      if (attempt !== this.#attempt) return;
      clearTimeout(this.#timer);
      this.#opened = false;
      this.#listen(new WebSocket(...this.#target(value)));
    } catch (error) {
      if (attempt !== this.#attempt) return;
      const { name, message } = Object(error);
      if (name === "SecurityError") this.#finish(new CountersignError("insecure_context", message));
      else if (name === "SyntaxError") this.#finish(new CountersignError("bad_request", message));
      else this.#noToken(message);
    }
  }
  #noToken(why) {
    this.#emit("error", new CountersignError("token_failed", why));
    this.#wait(null);
  }
  #target(token) {
    const { tokenQuery, tokenPrefix = "countersign.token." } = this.#options;
    const url = new URL(this.#url);
    const protocols = ["countersign.v1"];
    if (token !== void 0) {
      if (tokenQuery) url.searchParams.set(tokenQuery, token);
      else protocols.push(tokenPrefix + token);
    }
    return [url.href, protocols];
  }
  #listen(socket) {
    const { origin = pageOrigin(), requestTimeoutMs = 15e3, fetch = globalThis.fetch, forms = [] } = this.#options;
    const isCurrent = () => this.#session === session;
    const settings = { ...this.#options, origin, host: this.#url.host, forms: [VM, ...forms], fetch, requestTimeoutMs };
    const session = new Session(socket, settings, {
      heard: (name, value) => isCurrent() && this.#heard(name, value),
      ready: () => isCurrent() && this.#ready(session),
      failed: (error) => isCurrent() && this.#finish(error),
      closed: (code, reason) => isCurrent() && this.#lost(code, reason)
    });
    this.#session = session;
  }
  #heard(name, value) {
    if (name === "welcome") {
      this.#opened = true;
      this.#become("open");
    }
    this.#emit(name, value);
    if (name === "ticket") this.#release();
    if (name === "publication") {
      const publication = value;
      this.#subscriptions.get(publication.channel)?.deliver(publication, guarded);
    }
  }
  #ready(session) {
    this.#readyAt = Date.now();
    this.#tokenRetried = false;
    if (session.isVerified) this.#become("verified");
    for (const subscription of this.#subscriptions.values()) void this.#resubscribe(session, subscription);
    this.#release();
    this.#scheduleRefresh(session, session.expiresAt);
  }
  async #resubscribe(session, subscription) {
    const { channel } = subscription;
    try {
      await session.request("subscribe", { channel });
      subscription.accept();
    } catch (error) {
      const { code } = error;
      if (code === "already_subscribed") subscription.accept();
      else if (code === "timeout") session.abandon();
      else if (code !== "closed" && this.#subscriptions.get(channel) === subscription) {
        this.#subscriptions.delete(channel);
        this.#emit("error", error);
        subscription.finish(error);
      }
    }
    this.#release();
  }
  /** The socket is gone, by itself or by the node. */
  #lost(code, reason) {
    this.#drop();
    if (Date.now() - this.#readyAt >= LASTED_MS) this.#backoff.reset();
    this.#readyAt = Infinity;
    const again = this.#options.reconnect !== false && (mayReconnect(code) || this.#mayRetryToken(code));
    this.#emit("disconnected", { code, reason, again });
    if (!again) return this.#finish(new CountersignError(MEANINGS[code] ?? "closed", `closed: ${code} ${reason}`, code));
    this.#wait(retryHint(reason));
    if (!this.#opened) void this.#diagnose(this.#attempt);
  }
  /** With a token function a refused token is worth one more attempt: the next token is another. */
  #mayRetryToken(code) {
    if (code !== 4401 || typeof this.#options.token !== "function" || this.#tokenRetried) return false;
    return this.#tokenRetried = true;
  }
  async #diagnose(attempt) {
    const { fetch = globalThis.fetch } = this.#options;
    if (!await isOriginRefused(this.#httpUrl(), fetch) || attempt !== this.#attempt) return;
    this.#finish(new CountersignError("origin_refused", "the node refuses pages of this origin"));
  }
  #wait(hint) {
    this.#drop();
    this.#become("waiting");
    if (this.#state === "waiting" && !this.#hidden) this.#timer = later(this.#backoff.next(hint), () => void this.#open());
  }
  #scheduleRefresh(session, expiresAt) {
    const { token } = this.#options;
    if (this.#session !== session || typeof token !== "function" || expiresAt === null) return;
    clearTimeout(this.#timer);
    const left = expiresAt * 1e3 - Date.now();
    const pause = Math.max(5e3, left - Math.max(3e4, left / 10));
    this.#timer = later(pause, () => void this.#refreshToken(session, token, expiresAt));
  }
  async #refreshToken(session, token, expiresAt) {
    let until = expiresAt;
    try {
      until = (await session.request("refresh", { token: await token() })).expiresAt;
    } catch (error) {
      if (this.#session === session) this.#emit("error", error instanceof CountersignError ? error : new CountersignError("token_failed", String(error)));
    }
    if (typeof until === "number") this.#scheduleRefresh(session, until);
  }
  /** A page in the back-forward cache may not hold a socket; shown again, it connects and is verified anew. */
  #onHide = () => {
    this.#hidden = true;
    this.#drop()?.close();
    this.#become("waiting");
  };
  #onShow = () => {
    if (!this.#hidden) return;
    this.#hidden = false;
    void this.#open();
  };
  #finish(error) {
    if (this.#state === "closed") return;
    this.#error = error;
    this.#state = "closed";
    globalThis.removeEventListener?.("pagehide", this.#onHide);
    globalThis.removeEventListener?.("pageshow", this.#onShow);
    this.#drop()?.close();
    for (const settle of this.#waiters) settle(this.#gone());
    for (const subscription of this.#subscriptions.values()) subscription.finish(error);
    this.#subscriptions.clear();
    if (error) this.#emit("error", error);
    this.#emit("state", "closed");
    for (const queue of [...this.#queues]) queue.end();
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
    if (may(this.#session)) return this.#session;
    if (this.#state === "closed") throw this.#gone();
    if (this.#waiters.size >= WAITERS_MAX) throw new CountersignError("overloaded", "too many requests wait");
    return new Promise((resolve, reject) => {
      const settle = (error) => {
        if (!error && !may(this.#session)) return;
        clearTimeout(timer);
        this.#waiters.delete(settle);
        if (error) reject(error);
        else resolve(this.#session);
      };
      const timer = later(timeoutMs, () => settle(new CountersignError("timeout", "not ready in time")));
      const abort = () => settle(new CountersignError("aborted", "ended by the page"));
      this.#waiters.add(settle);
      signal?.addEventListener("abort", abort);
      if (signal?.aborted) abort();
    });
  }
  /** Those who can go on now, do. */
  #release() {
    for (const settle of this.#waiters) settle();
  }
  #gone() {
    return this.#error ?? new CountersignError("aborted", "ended by the page");
  }
  #httpUrl() {
    const url = new URL(this.#url);
    url.protocol = url.protocol.replace("ws", "http");
    url.search = "";
    return url.href;
  }
  #become(state) {
    if (this.#state === state || this.#state === "closed") return;
    this.#state = state;
    this.#emit("state", state);
  }
  #emit(type, value) {
    for (const listener of this.#listeners.get(type) ?? []) guarded(() => listener(value));
    if (type !== "frame") for (const queue of this.#queues) queue.push({ type, value });
  }
};
var MEANINGS = { 4401: "token_invalid", 4403: "challenge_failed", 4408: "challenge_failed" };
var isReady = (session) => session?.isReady;
function later(ms, work) {
  return setTimeout(work, Math.min(ms, TIMER_MAX));
}
function guarded(work) {
  try {
    work();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
function unlessGone(error) {
  if (error.code !== "closed" && error.code !== "not_subscribed") throw error;
}

// src/index.ts
function connect(url, options = {}) {
  return new Connection(url, options);
}
export {
  CountersignError,
  connect
};
