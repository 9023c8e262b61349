// The page that a node serves under `/`: one connection from handshake to refusal, each step as it happens.
// Every step shows its state in `data-state` (waiting, running, done, failed); nothing is put on `window`.

import { connect } from '/sdk/countersign.min.js';

const { gateway, header, resource, channel } = document.body.dataset;
const element = (id) => document.getElementById(id);
const steps = [...document.querySelectorAll('[data-step]')];
const closeButton = element('close');
const stealButton = element('steal');
const againButton = element('again');

const LINES_MAX = 200;
const TEXT_MAX = 220;
const REPLY_TIMEOUT_MS = 15_000;

const TICK_MS = 100;

let client = null;
/** When the newest ticket came, and for how long it is good. */
let ticket = null;

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

const showTicket = () => {
  const age = ticket ? (performance.now() - ticket.since) / 1000 : 0;
  element('ticket').textContent = ticket ? `${age.toFixed(1)} s old, good for ${ticket.expiresInMs / 1000} s` : '–';
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

/** The first event of a kind; the error instead, if the connection ends before. */
const first = (type) => {
  const came = new Promise((resolve, reject) => {
    client.on(type, resolve);
    client.closed.then((error) => reject(error ?? new Error('closed')));
  });
  // Each is waited for in its own time.
  came.catch(() => {});
  return came;
};

/** Ends a wait that would last for ever. */
const limited = (promise, what) => {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer to ${what}`)), REPLY_TIMEOUT_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

/** By hand rather than through the client, which has nothing to show once it is closed. */
const call = async (headers) => {
  const response = await fetch(resource, { headers, cache: 'no-store' });
  return { status: response.status, body: await response.text() };
};

/** What somebody can do who knows nothing but the connection id. */
const steal = () => step('stolen', async () => {
  const { status, body } = await call({ [header]: client.id });
  const isBearer = element('mode').textContent === 'bearer';
  if (status !== (isBearer ? 200 : 401)) throw new Error(`${status} ${body}`);
  return isBearer ? '200: in this mode the id is the credential, and has to be kept like one.' : `401 ${body}`;
});

const run = async () => {
  for (const button of [stealButton, closeButton, againButton]) button.disabled = true;
  ticket = null;
  for (const name of ['form', 'mode']) element(name).textContent = '–';
  element('frames').replaceChildren();
  for (const { dataset } of steps) show(dataset.step, 'waiting');
  showConnection('connecting');
  let id;
  // The client answers by itself; the steps follow what it does.
  client = connect(gateway, { header, reconnect: false, allowInsecure: true, files: '/demo/' });
  client.on('frame', ({ sent, text }) => log(sent ? '→' : '←', text));
  client.on('ticket', ({ expiresInMs }) => { ticket = { since: performance.now(), expiresInMs }; });
  client.on('disconnected', ({ code, reason }) => log('·', `closed ${code} ${reason}`));
  client.closed.then(() => showConnection('closed', id));
  const [welcome, challenge, answer, verified] = ['welcome', 'challenge', 'answer', 'verified'].map(first);

  await step('connect', async () => {
    id = (await limited(welcome, 'the handshake')).connectionId;
    showConnection('open', id);
    return `Connection id ${id}`;
  });
  await step('challenge', async () => {
    const { form, mode, program, answerMs } = await limited(challenge, 'hello');
    element('form').textContent = form;
    element('mode').textContent = mode;
    showConnection('challenged', id);
    return `${program.length} characters of the form ${form}; to be answered within ${answerMs / 1000} s`;
  });
  await step('evaluate', async () => {
    const { mac, signature, origin } = await limited(answer, 'the program');
    return `${mac.length} characters of outcome, ${signature.length} of signature, for the origin ${origin}`;
  });
  await step('verify', async () => {
    await limited(verified, 'answer');
    showConnection('verified', id);
    return 'The node found the same outcome, the origin of the handshake, and the signature of the key.';
  });
  await step('call', async () => {
    const response = await client.fetch(resource, { cache: 'no-store' });
    const body = await response.text();
    if (!response.ok) throw new Error(`${response.status} ${body}`);
    return `${response.status} ${body}`;
  });
  await steal();
  let values;
  await step('subscribe', async () => {
    const subscription = await client.subscribe(channel);
    values = subscription[Symbol.asyncIterator]();
    return `Subscribed to ${channel}`;
  });
  await step('publish', async () => {
    const greeting = { text: 'hello, lobby', from: id.slice(0, 6) };
    await client.publish(channel, greeting);
    for (;;) {
      const { value } = await limited(values.next(), 'publish');
      if (value?.from === greeting.from) return JSON.stringify(value);
    }
  });
  for (const button of [stealButton, closeButton]) button.disabled = false;
};

const closeAndCall = async () => {
  for (const button of [stealButton, closeButton, againButton]) button.disabled = true;
  const headers = await client.headersFor('GET', resource);
  await step('close', async () => {
    const { code, reason } = await client.close();
    ticket = null;
    return `${code} ${reason}`;
  });
  await step('denied', async () => {
    const { status, body } = await call(headers);
    if (status !== 401) throw new Error(`expected 401, got ${status} ${body}`);
    return `401 ${body}`;
  });
};

/** A failed step has shown why; what is left is to let the visitor try again. */
const attempt = (work) => work().catch((error) => log('!', error.message)).finally(() => { againButton.disabled = false; });

prepare();
setInterval(showTicket, TICK_MS);
stealButton.addEventListener('click', () => attempt(steal));
closeButton.addEventListener('click', () => attempt(closeAndCall));
againButton.addEventListener('click', () => attempt(async () => {
  await client?.close();
  await run();
}));
attempt(run);
