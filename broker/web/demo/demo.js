// The page that a node serves under `/`: one connection from handshake to refusal, each step as it happens.
// Every step shows its state in `data-state` (waiting, running, done, failed); nothing is put on `window`.

import { connect } from '/sdk/countersign.min.js';

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

/** By hand rather than through the client, which has no id to show once it is closed. */
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
  // The client answers by itself; the steps follow what it does.
  client = connect(gateway, { header, reconnect: false, allowInsecure: true });
  client.on('frame', ({ sent, text }) => log(sent ? '→' : '←', text));
  client.on('disconnected', ({ code, reason }) => log('·', `closed ${code} ${reason}`));
  client.closed.then(() => showConnection('closed', id));
  const [welcome, challenge, answer, verified] = ['welcome', 'challenge', 'answer', 'verified'].map(first);

  await step('connect', async () => {
    id = (await limited(welcome, 'the handshake')).connectionId;
    showConnection('open', id);
    return `Connection id ${id}`;
  });
  await step('challenge', async () => {
    const { form, program, answerMs } = await limited(challenge, 'hello');
    showConnection('challenged', id);
    return `${program.length} characters of the form ${form}; to be answered within ${answerMs / 1000} s`;
  });
  await step('evaluate', async () => {
    const { lanes, origin } = await limited(answer, 'the program');
    return `${lanes.length} numbers, origin ${origin}`;
  });
  await step('verify', async () => {
    await limited(verified, 'answer');
    showConnection('verified', id);
    return 'The node found the same numbers, and the origin of the handshake.';
  });
  await step('call', async () => {
    const { status, body } = await call(id);
    if (status !== 200) throw new Error(`${status} ${body}`);
    return `200 ${body}`;
  });
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
