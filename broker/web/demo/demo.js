// The page that a node serves under `/`: one connection from handshake to refusal, each step as it happens.
// Every step shows its state in `data-state` (waiting, running, done, failed); nothing is put on `window`.

const { gateway, header, resource, channel } = document.body.dataset;
const element = (id) => document.getElementById(id);
const steps = [...document.querySelectorAll('[data-step]')];
const closeButton = element('close');
const againButton = element('again');

const LINES_MAX = 200;
const TEXT_MAX = 220;
const REPLY_TIMEOUT_MS = 15_000;

let client = null;

/** Gives every step the places for its badge, time and result. */
const prepare = () => {
  for (const step of steps) {
    const status = document.createElement('div');
    status.className = 'status';
    const time = Object.assign(document.createElement('span'), { className: 'time' });
    const badge = Object.assign(document.createElement('span'), { className: 'badge' });
    status.append(time, badge);
    const result = Object.assign(document.createElement('p'), { className: 'result' });
    step.append(status, result);
  }
  element('origin').textContent = location.origin;
};

/** Shows one step's state. */
const show = (name, state, result = '', milliseconds = null) => {
  const step = steps.find((candidate) => candidate.dataset.step === name);
  step.dataset.state = state;
  const badge = step.querySelector('.badge');
  badge.dataset.state = state;
  badge.textContent = state;
  step.querySelector('.time').textContent = milliseconds === null ? '' : `${milliseconds.toFixed(1)} ms`;
  step.querySelector('.result').textContent = result;
  if (state === 'done' || state === 'failed') {
    element('announce').textContent = `${step.querySelector('h2').textContent}: ${state}. ${result}`;
  }
};

const showConnection = (state, id = '–') => {
  Object.assign(element('state'), { textContent: state }).dataset.state = state;
  element('connection').textContent = id;
};

const log = (arrow, text) => {
  const line = document.createElement('li');
  const mark = Object.assign(document.createElement('b'), { textContent: arrow });
  line.append(mark, text.length > TEXT_MAX ? `${text.slice(0, TEXT_MAX)}… (${text.length} characters)` : text);
  const frames = element('frames');
  frames.append(line);
  while (frames.children.length > LINES_MAX) frames.firstChild.remove();
  frames.scrollTop = frames.scrollHeight;
};

/** Runs a step, times it, and shows how it ended; `work` returns the text of its result. */
const step = async (name, work) => {
  show(name, 'running');
  const start = performance.now();
  try {
    const result = await work();
    show(name, 'done', result, performance.now() - start);
  } catch (error) {
    show(name, 'failed', error.message, performance.now() - start);
    throw error;
  }
};

/** A connection that speaks `countersign.v1`: requests get replies by id, events wait until they are asked for. */
class Client {
  #socket;
  #replies = new Map();
  #events = [];
  #waiting = null;
  #asked = 0;
  #ended = null;

  constructor(url) {
    this.#socket = new WebSocket(url, 'countersign.v1');
    this.#socket.addEventListener('message', ({ data }) => this.#take(data));
    this.closed = new Promise((resolve) => {
      this.#socket.addEventListener('close', (event) => {
        log('·', `closed ${event.code} ${event.reason}`);
        this.#ended = new Error(event.code === 1006 ? 'the socket was refused or lost' : `closed: ${event.code} ${event.reason}`);
        for (const { reject } of this.#replies.values()) reject(this.#ended);
        this.#waiting?.reject(this.#ended);
        resolve(event);
      });
    });
  }

  async ask(action, members = {}) {
    const id = (this.#asked += 1);
    const reply = new Promise((resolve, reject) => this.#replies.set(id, { resolve, reject }));
    const text = JSON.stringify({ id, action, ...members });
    log('→', text);
    this.#socket.send(text);
    const { ok, error } = await limited(reply, action);
    if (error) throw new Error(`${error.code}: ${error.message}`);
    return ok;
  }

  async event(name) {
    for (;;) {
      const found = this.#events.findIndex((event) => event.event === name);
      if (found >= 0) return this.#events.splice(found, 1)[0];
      if (this.#ended) throw this.#ended;
      await limited(new Promise((resolve, reject) => { this.#waiting = { resolve, reject }; }), name);
    }
  }

  close() {
    this.#socket.close(1000);
    return this.closed;
  }

  #take(data) {
    log('←', data);
    const message = JSON.parse(data);
    const reply = this.#replies.get(message.id);
    if (reply) {
      this.#replies.delete(message.id);
      reply.resolve(message);
    } else if (message.event) {
      this.#events.push(message);
      this.#waiting?.resolve();
    }
  }
}

/** Ends a wait that would last for ever. */
const limited = (promise, what) => {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer to ${what}`)), REPLY_TIMEOUT_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

const base64url = (bytes) => btoa(String.fromCharCode(...bytes)).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');

const call = async (id) => {
  const response = await fetch(resource, { headers: { [header]: id }, cache: 'no-store' });
  return { status: response.status, body: await response.text() };
};

const run = async () => {
  closeButton.disabled = true;
  againButton.disabled = true;
  element('frames').replaceChildren();
  for (const { dataset } of steps) show(dataset.step, 'waiting');
  showConnection('connecting');
  let id;
  let challenge;
  let result;

  await step('connect', async () => {
    const url = new URL(gateway, location.href);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    client = new Client(url);
    client.closed.then(() => showConnection('closed', id));
    const welcome = await client.event('welcome');
    id = welcome.connectionId;
    showConnection('open', id);
    return `Connection id ${id}`;
  });
  await step('challenge', async () => {
    await client.ask('hello', { forms: ['source'], nonce: base64url(crypto.getRandomValues(new Uint8Array(32))) });
    challenge = await client.event('challenge');
    showConnection('challenged', id);
    return `${challenge.program.length} characters; to be answered within ${challenge.answerMs / 1000} s`;
  });
  await step('evaluate', () => {
    result = new Function(`return (${challenge.program});`)()();
    return `${result.lanes.length} numbers, origin ${result.origin}`;
  });
  await step('verify', async () => {
    const { challenge: handle, epoch } = challenge;
    await client.ask('answer', { challenge: handle, epoch, origin: result.origin, lanes: result.lanes });
    await client.event('verified');
    showConnection('verified', id);
    return 'The node found the same numbers, and the origin of the handshake.';
  });
  await step('call', async () => {
    const { status, body } = await call(id);
    if (status !== 200) throw new Error(`${status} ${body}`);
    return `200 ${body}`;
  });
  await step('subscribe', async () => {
    await client.ask('subscribe', { channel });
    return `Subscribed to ${channel}`;
  });
  await step('publish', async () => {
    const greeting = { text: 'hello, lobby', from: id.slice(0, 6) };
    await client.ask('publish', { channel, data: greeting });
    for (;;) {
      const publication = await client.event('publication');
      if (publication.channel === channel && publication.data?.from === greeting.from) return JSON.stringify(publication.data);
    }
  });
  closeButton.disabled = false;
};

const closeAndCall = async () => {
  closeButton.disabled = true;
  againButton.disabled = true;
  const id = element('connection').textContent;
  await step('close', async () => {
    const { code, reason } = await client.close();
    return `${code} ${reason}`;
  });
  await step('denied', async () => {
    const { status, body } = await call(id);
    if (status !== 401) throw new Error(`expected 401, got ${status} ${body}`);
    return `401 ${body}`;
  });
};

/** A failed step has shown why; what is left is to let the visitor try again. */
const attempt = (work) => work().catch((error) => log('!', error.message)).finally(() => { againButton.disabled = false; });

prepare();
closeButton.addEventListener('click', () => attempt(closeAndCall));
againButton.addEventListener('click', () => attempt(async () => {
  await client?.close();
  await run();
}));
attempt(run);
