import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { ID, settle, sockets } from './fake.mjs'
import { b64u, callFault, challenge, fault, sha256, signed, signer } from './judge.mjs'
import { connect } from '../dist/modules/index.js'

const HOST = 'node.example:8443'
const ORIGIN = 'https://app.example'

const opened = []
// A reply that is still waited for would keep the process.
after(() => opened.forEach((connection) => connection.close()))

/** A connection that has said hello. */
const greeted = async (options = {}) => {
  const Sockets = sockets()
  const connection = connect(`wss://Node.Example:8443/ws`, { WebSocket: Sockets, origin: ORIGIN, random: () => 1, ...options })
  opened.push(connection)
  await settle()
  const socket = Sockets.last
  const hello = await socket.greet()
  socket.reply()
  return { Sockets, connection, socket, hello }
}

/** One that is verified. */
const verified = async (options, frame = challenge()) => {
  const all = await greeted(options)
  const answer = await all.socket.challenge(frame)
  assert.equal(fault(answer, { frame, hello: all.hello, host: HOST, origin: ORIGIN }), null)
  all.socket.reply()
  all.socket.hear({ event: 'verified', connectionId: ID })
  await all.connection.ready()
  return all
}

let tickets = 0
/** A ticket as a node pushes it. */
const ticket = (expiresInMs = 15_000) => {
  tickets += 1
  return { event: 'ticket', ticket: Buffer.alloc(250, tickets).toString('base64url'), nonce: Buffer.alloc(32, tickets).toString('base64url'), expiresInMs }
}

const generateKey = crypto.subtle.generateKey.bind(crypto.subtle)
const newKey = () => generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify'])

/** How a challenge that must not be answered ends. */
const ended = async ({ connection, socket }, frame) => {
  const sent = socket.sent.length
  socket.hear(frame)
  const { code } = await connection.closed
  assert.equal(socket.sent.length, sent, 'nothing was answered')
  return code
}

test('a page has one key, and a supplied one is used instead', async () => {
  const keys = []
  for (const options of [{}, {}, { key: await newKey() }]) keys.push(JSON.parse((await greeted(options)).hello).key)
  assert.equal(keys[0], keys[1])
  assert.notEqual(keys[0], keys[2])
})

test('the key is made where its private half cannot be read, and not before it is needed', async (t) => {
  const made = []
  const { subtle } = crypto
  t.mock.method(subtle, 'generateKey', (...how) => {
    made.push(how)
    return newKey()
  })
  const { pageKey } = await import('../dist/modules/key.js?fresh')
  assert.equal(made.length, 0)
  await Promise.all([pageKey(), pageKey()])
  assert.deepEqual(made.map(([{ name, namedCurve }, extractable]) => [name, namedCurve, extractable]), [['ECDSA', 'P-256', false]])
})

test('without the cryptography of secure pages nothing is said', async (t) => {
  t.mock.getter(globalThis, 'crypto', () => ({ getRandomValues: (bytes) => bytes }))
  const Sockets = sockets()
  const connection = connect('ws://node.example/ws', { WebSocket: Sockets, allowInsecure: true })
  await settle()
  Sockets.last.welcome({ challenge: 'required' })
  assert.equal((await connection.closed).code, 'insecure_context')
  assert.deepEqual(Sockets.last.sent, [])
})

test('an answer of a framed page names the page at the top', async () => {
  globalThis.location = { origin: ORIGIN, href: `${ORIGIN}/`, ancestorOrigins: ['https://middle.example', 'https://top.example'] }
  try {
    const { socket, hello } = await greeted()
    const frame = challenge()
    const answer = await socket.challenge(frame)
    assert.equal(fault(answer, { frame, hello, host: HOST, origin: ORIGIN, topOrigin: 'https://top.example' }), null)
  } finally {
    delete globalThis.location
  }
})

test('a later epoch is answered on the verified connection, an earlier or the same one ends it', async () => {
  const { connection, socket, hello } = await verified()
  const states = []
  connection.on('state', (state) => states.push(state))
  const subscribing = connection.subscribe('news')
  socket.reply()
  await subscribing
  const frame = challenge({ epoch: 3, mode: 'proof', nonce: Buffer.alloc(32, 3).toString('base64url') })
  assert.equal(fault(await socket.challenge(frame), { frame, hello, host: HOST, origin: ORIGIN }), null)
  socket.hear({ event: 'verified', connectionId: ID })
  assert.deepEqual([connection.state, states], ['verified', []])
  assert.equal(socket.sent.filter(({ action }) => action === 'subscribe').length, 1, 'nothing begins anew')
  assert.equal(await ended({ connection, socket }, challenge({ epoch: 3, mode: 'proof' })), 'challenge_unsupported')
  const weaker = await verified()
  assert.equal(await ended(weaker, challenge({ epoch: 1, mode: 'bearer' })), 'challenge_unsupported', 'a mode does not fall')
})

test('a node cannot settle for less than the mode that was asked for', async () => {
  const asked = await greeted({ mode: 'proof' })
  assert.equal(JSON.parse(asked.hello).mode, 'proof')
  assert.equal(await ended(asked, challenge({ mode: 'ticket' })), 'challenge_unsupported')
  const Sockets = sockets()
  const connection = connect('wss://node.example/ws', { WebSocket: Sockets, mode: 'ticket' })
  await settle()
  Sockets.last.welcome()
  assert.equal((await connection.closed).code, 'challenge_unsupported')
  const content = connect('wss://node.example/ws', { WebSocket: Sockets, mode: 'bearer' })
  await settle()
  Sockets.last.welcome()
  await content.ready()
  content.close()
})

test('with pinned keys only what one of them signed is run', async () => {
  const [present, next, other] = [signer(), signer(), signer()]
  const pins = [present.pin, next.pin]
  for (const key of [present, next]) {
    const { socket, hello } = await greeted({ pins })
    const frame = signed(key, HOST, hello)
    assert.equal(fault(await socket.challenge(frame), { frame, hello, host: HOST, origin: ORIGIN }), null)
  }
  const wrong = [
    () => challenge(),
    (hello) => signed(other, HOST, hello),
    (hello) => signed(present, 'other.example', hello),
    (hello) => signed(present, HOST, `${hello} `),
    ...[{ epoch: 1 }, { mode: 'proof' }, { answerMs: 9 }, { nonce: 'A'.repeat(43) }, { challenge: 'A'.repeat(22) }, { program: 'AAAA' }, { work: { bits: 1, count: 1 } },
      { file: { path: '/assets/a.js', offset: 0, length: 1 } }]
      .map((changed) => (hello) => ({ ...signed(present, HOST, hello), ...changed })),
    (hello) => ({ ...signed(present, HOST, hello), signature: 'A'.repeat(86) }),
    (hello) => ({ ...signed(present, HOST, hello), signature: 'A' }),
  ]
  for (const make of wrong) {
    const all = await greeted({ pins })
    assert.equal(await ended(all, make(all.hello)), 'program_unsigned', String(make))
  }
  for (const none of [[], ['A'], [other.pin.slice(0, 80)]]) {
    const all = await greeted({ pins: none })
    assert.equal(await ended(all, signed(present, HOST, all.hello)), 'program_unsigned')
  }
})

test('a further form is offered, and run only if a pinned key signed its program', async () => {
  const form = { name: 'steps', pinned: true, run: async (program) => Array.from(program, Number) }
  assert.throws(() => connect('wss://node.example/ws', { WebSocket: sockets(), forms: [form] }), { code: 'program_unsigned' })
  const key = signer()
  const frame = challenge({ form: 'steps', program: '12345678' })
  const all = await greeted({ pins: [key.pin], forms: [form] })
  assert.deepEqual(JSON.parse(all.hello).forms, ['vm', 'steps'])
  const good = signed(key, HOST, all.hello, frame)
  const answer = await all.socket.challenge(good)
  assert.equal(fault(answer, { frame: good, hello: all.hello, host: HOST, origin: ORIGIN, lanes: [1, 2, 3, 4, 5, 6, 7, 8] }), null)
  assert.equal(await ended(await greeted({ pins: [key.pin], forms: [form] }), frame), 'program_unsigned')
})

test('the hash of a program is the node\'s word only where the program is run elsewhere', async () => {
  const key = signer()
  const mac = new Uint8Array(32).fill(5)
  const window = { name: 'window', pinned: true, elsewhere: true, run: async () => mac }
  const steps = { name: 'steps', pinned: true, run: async (program) => Array.from(program, Number) }
  const options = { pins: [key.pin], forms: [window, steps] }
  // Signed for one program; delivered is another.
  const exchanged = (form, hello) => {
    const frame = signed(key, HOST, hello, challenge({ form, program: '11111111' }))
    return { ...frame, program: '22222222', programHash: sha256('11111111').toString('base64url') }
  }
  const all = await greeted(options)
  const answer = await all.socket.challenge(exchanged('window', all.hello))
  assert.equal(answer.mac, Buffer.from(mac).toString('base64url'))
  const cheated = await greeted(options)
  assert.equal(await ended(cheated, exchanged('steps', cheated.hello)), 'program_unsigned')
})

test('puzzles are solved, and given up when it is too late', async () => {
  const frame = challenge({ work: { bits: 9, count: 4 } })
  const { socket, hello } = await greeted()
  assert.equal(fault(await socket.challenge(frame), { frame, hello, host: HOST, origin: ORIGIN }), null)
  assert.equal(await ended(await greeted(), challenge({ work: { bits: 32, count: 200 }, answerMs: 50 })), 'challenge_unsupported')
})

test('a part of a file is read where the page lets nodes ask for it, and no byte after it', async () => {
  const asked = []
  let left = 0
  const server = (ranges) => async (url, { headers, ...how }) => {
    asked.push([url, headers.Range, how])
    const [from, to] = headers.Range.match(/\d+/g).map(Number)
    const text = ranges ? '0123456789'.slice(from, to + 1) : '0123456789'
    left = 100
    // In pieces, and more without end.
    const body = new ReadableStream({ pull: (c) => (left-- > 0 ? c.enqueue(Buffer.from(100 - left > text.length ? 'x' : text[99 - left])) : c.close()) }, { highWaterMark: 0 })
    return new Response(body, { status: url.endsWith('gone') ? 404 : ranges ? 206 : 200 })
  }
  const frame = challenge({ file: { path: '/assets/app.js?v=1', offset: 2, length: 5 } })
  const file = sha256('23456')
  for (const ranges of [true, false]) {
    const { socket, hello } = await greeted({ fetch: server(ranges), files: '/assets/' })
    assert.equal(fault(await socket.challenge(frame), { frame, hello, host: HOST, origin: ORIGIN, file }), null)
    assert.deepEqual(asked.pop(), [`${ORIGIN}/assets/app.js?v=1`, 'bytes=2-6', { credentials: 'omit', redirect: 'error' }])
    assert.equal(left, ranges ? 95 : 93)
  }
  const gone = challenge({ file: { path: '/assets/gone', offset: 0, length: 1 } })
  assert.equal(await ended(await greeted({ fetch: server(true), files: '/assets/' }), gone), 'challenge_unsupported')
  asked.pop()
  const paths = ['//evil.example/assets/app.js', '/private', '/assets', '/assets/../private', '/assets/%2e%2e/private', '/assets/..%2Fprivate', '/assets/..%5cprivate']
  for (const path of paths) {
    const all = await greeted({ fetch: server(true), files: '/assets/' })
    assert.equal(await ended(all, challenge({ file: { path, offset: 0, length: 1 } })), 'challenge_unsupported', path)
  }
  for (const options of [{}, { files: '/assets/', origin: '' }]) {
    assert.equal(await ended(await greeted({ fetch: server(true), ...options }), frame), 'challenge_unsupported')
  }
  const long = challenge({ file: { path: '/assets/app.js', offset: 0, length: 2 ** 17 } })
  assert.equal(await ended(await greeted({ fetch: server(true), files: '/assets/' }), long), 'challenge_unsupported')
  assert.deepEqual(asked, [])
})

test('a file whose rest cannot be cancelled is read all the same', async () => {
  const body = () => new ReadableStream({ pull: (c) => c.enqueue(Buffer.from('01234')), cancel: () => Promise.reject(new Error('gone')) })
  const { socket, hello } = await greeted({ fetch: async () => new Response(body(), { status: 206 }), files: '/assets/' })
  const frame = challenge({ file: { path: '/assets/app.js', offset: 0, length: 5 } })
  // A rejection that nobody handles would fail this test.
  assert.equal(fault(await socket.challenge(frame), { frame, hello, host: HOST, origin: ORIGIN, file: sha256('01234') }), null)
})

test('a call waits for a ticket no longer than the options say, or its signal', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { connection } = await verified({ fetch: () => assert.fail('there is no ticket'), readyTimeoutMs: 2000 })
  const controller = new AbortController()
  const ended = []
  for (const init of [{ signal: controller.signal }, {}]) {
    connection.fetch('https://node.example:8443/', init).catch(({ code }) => ended.push(code))
  }
  await settle()
  controller.abort()
  await settle()
  assert.deepEqual(ended, ['aborted'])
  t.mock.timers.tick(2000)
  await settle()
  assert.deepEqual(ended, ['aborted', 'timeout'])
})

test('in ticket mode a call carries the newest ticket, and waits for one when there is none', async (t) => {
  t.mock.timers.enable({ apis: ['Date'], now: 1_000_000 })
  const calls = []
  const { connection, socket } = await verified({ fetch: async ({ headers }) => calls.push(Object.fromEntries(headers)) })
  const events = []
  connection.on('ticket', (event) => events.push(event))
  const early = connection.fetch('https://node.example:8443/greeting')
  await settle()
  assert.equal(calls.length, 0)
  const [first, second, third] = [ticket(), ticket(), ticket()]
  socket.hear(first)
  await early
  socket.hear(second)
  await connection.fetch('https://node.example:8443/greeting')
  t.mock.timers.tick(15_000)
  const late = connection.fetch('https://node.example:8443/greeting')
  await settle()
  assert.equal(calls.length, 2)
  socket.hear(third)
  await late
  assert.deepEqual(calls, [first, second, third].map(({ ticket }) => ({ 'countersign-ticket': ticket })))
  assert.deepEqual(events, [first, second, third])
})

test('a call that waits for a ticket goes on with the next connection, and ends with the last', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { Sockets, connection, socket } = await verified({ fetch: async ({ headers }) => headers.get('countersign-ticket'), backoff: { first: 1000 } })
  const waiting = connection.fetch('https://node.example:8443/')
  socket.end(1012)
  await settle()
  t.mock.timers.tick(1000)
  await settle()
  const next = Sockets.last
  assert.notEqual(next, socket)
  await next.greet()
  next.reply()
  await next.challenge(challenge())
  next.hear({ event: 'verified', connectionId: ID })
  const good = ticket()
  next.hear(good)
  assert.equal(await waiting, good.ticket)
  next.end(1012)
  await settle()
  const last = connection.fetch('https://node.example:8443/')
  connection.close()
  await assert.rejects(last, { code: 'aborted' })
})

test('a method is signed as it is sent, not as it might be written', async () => {
  const calls = []
  const { connection, socket, hello } = await verified({ fetch: async (request) => calls.push(request) }, challenge({ mode: 'proof' }))
  const good = ticket()
  socket.hear(good)
  const url = 'https://node.example:8443/x'
  for (const [method, sent] of [['patch', 'patch'], ['PATCH', 'PATCH'], ['delete', 'DELETE']]) {
    await connection.fetch(url, { method })
    const { headers } = calls.pop()
    const counter = Number(headers.get('countersign-proof').split('.')[1])
    assert.equal(callFault(Object.fromEntries(headers), { hello, ticket: good, method: sent, target: `${HOST}/x`, body: '', counter }), null, method)
  }
})

test('in proof mode every call is signed: method, target, ticket, body, and a number that rises', async () => {
  const calls = []
  const key = await newKey()
  const { connection, socket, hello } = await verified({ key, fetch: async (request) => calls.push(request) }, challenge({ mode: 'proof' }))
  const good = ticket()
  socket.hear(good)
  const url = 'https://node.example:8443/Greeting?x=%20a#here'
  const bodies = [undefined, 'text \u00fc', new TextEncoder().encode('bytes'), new Blob(['blob']), new URLSearchParams({ a: 'b c' })]
  const texts = ['', 'text \u00fc', 'bytes', 'blob', 'a=b+c']
  for (const body of bodies) await connection.fetch(url, { method: body ? 'POST' : 'get', body })
  await connection.fetch(new Request('https://app.example/', { method: 'PUT', body: 'of a request' })).catch(({ code }) => assert.equal(code, 'foreign_origin'))
  await connection.fetch(new Request('https://node.example:8443/', { method: 'PUT', body: 'of a request' }))
  const form = new FormData()
  form.set('a', 'b')
  await connection.fetch(url, { method: 'POST', body: form })
  assert.equal(calls.length, 7)
  for (const [place, call] of calls.entries()) {
    const body = await call.text()
    if (place < 5) assert.equal(body, texts[place])
    const target = place === 5 ? `${HOST}/` : `${HOST}/Greeting?x=%20a`
    const { method } = call
    assert.equal(callFault(Object.fromEntries(call.headers), { hello, ticket: good, method, target, body, counter: place + 1 }), null, String(place))
  }
  const headers = await connection.headersFor('delete', 'https://node.example:8443/x', 'why')
  const lower = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
  assert.equal(callFault(lower, { hello, ticket: good, method: 'DELETE', target: `${HOST}/x`, body: 'why', counter: 8 }), null)
  for (const [url, target] of [['/?', '/?'], ['/a//b?c=https://d/#e#f', '/a//b?c=https://d/'], ['', '/']]) {
    const [first, proof] = Object.values(await connection.headersFor('GET', `https://node.example:8443${url}`))
    const call = { 'countersign-ticket': first, 'countersign-proof': proof }
    assert.equal(callFault(call, { hello, ticket: good, method: 'GET', target: HOST + target, counter: Number(proof.split('.')[1]) }), null, url)
  }
  await assert.rejects(connection.headersFor('GET', 'https://evil.example/'), { code: 'foreign_origin' })
})

test('one call may show more than its connection must, where there are tickets', async () => {
  const { connection, socket, hello } = await verified({ key: await newKey(), fetch: async ({ headers }) => Object.fromEntries(headers) })
  const good = ticket()
  socket.hear(good)
  assert.deepEqual(await connection.fetch('https://node.example:8443/', {}, 'bearer'), { 'countersign-ticket': good.ticket })
  const more = await connection.fetch('https://node.example:8443/', {}, 'proof')
  assert.equal(callFault(more, { hello, ticket: good, method: 'GET', target: `${HOST}/`, counter: 1 }), null)
  const bearer = await verified({}, challenge({ mode: 'bearer' }))
  assert.deepEqual(await bearer.connection.headersFor('GET', 'https://node.example:8443/'), { connectionId: ID })
  await assert.rejects(bearer.connection.headersFor('GET', 'https://node.example:8443/', null, 'ticket'), { code: 'mode_too_low' })
})

test('two connections of one key do not use a number twice', async () => {
  const key = await newKey()
  const numbers = []
  const both = await Promise.all([1, 2].map(() => verified({ key }, challenge({ mode: 'proof' }))))
  for (const { socket } of both) socket.hear(ticket())
  for (const { connection } of [...both, ...both]) {
    numbers.push((await connection.headersFor('GET', 'https://node.example:8443/'))['Countersign-Proof'].split('.')[1])
  }
  assert.deepEqual(numbers, ['1', '2', '3', '4'])
})
