import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { ID, settle, sockets } from './fake.mjs'
import { b64u, challenge, fault } from './judge.mjs'
import { connect } from '../dist/modules/index.js'

const URL_OF_NODE = 'wss://node.example/ws'

const opened = []
// What is still waited for would keep the process.
after(() => opened.forEach((connection) => connection.close()))

/** A connection over fake sockets, without jitter. */
const open = (options = {}) => {
  const Sockets = sockets()
  const connection = connect(URL_OF_NODE, { WebSocket: Sockets, random: () => 1, backoff: { first: 1000 }, ...options })
  opened.push(connection)
  return { Sockets, connection }
}

/** The same, ready. */
const ready = async (options) => {
  const opened = open(options)
  await settle()
  opened.Sockets.last.welcome()
  await opened.connection.ready()
  return opened
}

test('hello offers bytecode and a key, and the answer to it verifies the connection', async () => {
  const { Sockets, connection } = open({ origin: 'https://app.example' })
  await settle()
  const socket = Sockets.last
  assert.deepEqual([socket.url, socket.protocols], [URL_OF_NODE, ['countersign.v1']])
  const hello = await socket.greet()
  const { id, action, forms, nonce, key, ...more } = JSON.parse(hello)
  assert.deepEqual([id, action, forms, nonce.length, b64u(key).length, more], [1, 'hello', ['vm'], 43, 65, {}])
  socket.reply()
  assert.equal(connection.state, 'open')
  const frame = challenge()
  const answer = await socket.challenge(frame)
  assert.equal(fault(answer, { frame, hello, host: 'node.example', origin: 'https://app.example' }), null)
  assert.deepEqual(Object.keys(answer), ['id', 'action', 'challenge', 'epoch', 'origin', 'mac', 'signature'])
  socket.hear({ event: 'verified', connectionId: ID })
  await connection.ready()
  assert.deepEqual([connection.state, connection.id], ['verified', ID])
  assert.deepEqual(await connection.close(), { code: 1000, reason: 'bye' })
  assert.equal(await connection.closed, null)
})

test('a program that cannot be run is a failure, never a pass', async () => {
  const wrong = [{ program: 'AQ' }, { form: 'source', program: 'function(){}' }, { program: 'A' }, { nonce: 'AA' }, { challenge: 'A' }, { mode: 'none' }]
  for (const members of wrong) {
    const { Sockets, connection } = open()
    await settle()
    await Sockets.last.greet()
    Sockets.last.hear(challenge(members))
    assert.equal((await connection.closed).code, 'challenge_unsupported', JSON.stringify(members))
    await assert.rejects(connection.publish('a', 1), { code: 'challenge_unsupported' })
    assert.deepEqual([Sockets.made.length, Sockets.last.sent.length, connection.state], [1, 1, 'closed'])
  }
})

test('a node that does not offer bytecode is told of once', async () => {
  const { Sockets, connection } = open()
  await settle()
  await Sockets.last.greet()
  Sockets.last.reply({ error: { code: 'not_available', message: 'none of these forms is offered here' } })
  assert.equal((await connection.closed).code, 'not_available')
})

test('after a code that allows it the connection comes back, with its subscriptions, and not before the hint', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { Sockets, connection } = await ready()
  const heard = []
  const subscribing = connection.subscribe('news', (data) => heard.push(data))
  Sockets.last.reply()
  await subscribing
  Sockets.last.hear({ event: 'publication', channel: 'news', data: 1 })
  Sockets.last.end(1012, 'node restarts, reconnect in 5000 ms')
  await settle()
  assert.equal(connection.state, 'waiting')
  t.mock.timers.tick(5499)
  assert.equal(Sockets.made.length, 1)
  t.mock.timers.tick(1)
  await settle()
  assert.equal(Sockets.made.length, 2)
  Sockets.last.welcome()
  const { action, channel } = Sockets.last.sent[0]
  assert.deepEqual([action, channel], ['subscribe', 'news'])
  Sockets.last.reply()
  Sockets.last.hear({ event: 'publication', channel: 'news', data: { two: 2 } })
  assert.deepEqual(heard, [1, { two: 2 }])
})

test('a node that falls silent before the connection is verified is given up, not waited for', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { Sockets, connection } = open()
  await settle()
  const silent = Sockets.last
  await silent.greet()
  t.mock.timers.tick(15_000)
  await settle()
  assert.deepEqual([connection.state, silent.readyState], ['waiting', 3])
  t.mock.timers.tick(1000)
  await settle()
  assert.equal(Sockets.made.length, 2)
})

test('pauses grow while nothing answers', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { Sockets } = open()
  for (const pause of [1000, 2000, 4000]) {
    await settle()
    const made = Sockets.made.length
    Sockets.last.end(1006)
    await settle()
    t.mock.timers.tick(pause - 1)
    assert.equal(Sockets.made.length, made)
    t.mock.timers.tick(1)
    await settle()
    assert.equal(Sockets.made.length, made + 1)
  }
})

test('after any other code it does not come back, and everyone is told', async () => {
  for (const [code, name] of [[4403, 'challenge_failed'], [4408, 'challenge_failed'], [4401, 'token_invalid'], [4409, 'closed'], [4429, 'closed'], [1000, 'closed']]) {
    const { Sockets, connection } = await ready()
    const subscribing = connection.subscribe('news')
    Sockets.last.reply()
    const values = (await subscribing)[Symbol.asyncIterator]()
    const pending = connection.publish('news', 1)
    await settle()
    Sockets.last.end(code, 'why')
    await assert.rejects(pending, { code: 'closed', closeCode: code })
    await assert.rejects(values.next(), { code: name, closeCode: code })
    assert.equal((await connection.closed).closeCode, code)
    await assert.rejects(connection.subscribe('news'), { code: name })
    assert.equal(Sockets.made.length, 1)
  }
})

test('a refused token is worth one more attempt where there is a function for another', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  let made = 0
  const { Sockets, connection } = open({ token: () => `t${(made += 1)}` })
  await settle()
  assert.deepEqual(Sockets.last.protocols, ['countersign.v1', 'countersign.token.t1'])
  Sockets.last.welcome()
  Sockets.last.end(4401)
  await settle()
  t.mock.timers.tick(1000)
  await settle()
  assert.deepEqual(Sockets.last.protocols[1], 'countersign.token.t2')
  Sockets.last.end(4401)
  assert.equal((await connection.closed).code, 'token_invalid')
})

test('a token is replaced before it expires', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_000_000_000_000 })
  let made = 0
  const { Sockets } = open({ token: async () => `t${(made += 1)}`, tokenQuery: 'Authorizer' })
  await settle()
  assert.equal(Sockets.last.url, `${URL_OF_NODE}?Authorizer=t1`)
  Sockets.last.welcome({ expiresAt: 1_000_000_000 + 3600 })
  t.mock.timers.tick(3240_000)
  await settle()
  const { action, token } = Sockets.last.sent[0]
  assert.deepEqual([action, token], ['refresh', 't2'])
  Sockets.last.reply({ ok: { expiresAt: 1_000_000_000 + 7200 } })
  await settle()
  t.mock.timers.tick(3600_000)
  await settle()
  assert.equal(Sockets.last.sent[1].token, 't3')
})

test('a refused subscription is an error, and is not asked for again', async () => {
  const { Sockets, connection } = await ready()
  const refused = connection.subscribe('secret')
  Sockets.last.reply({ error: { code: 'denied', message: 'no' } })
  await assert.rejects(refused, { code: 'denied' })
  const again = connection.subscribe('secret')
  Sockets.last.reply()
  const subscription = await again
  await Promise.all([subscription.unsubscribe(), Sockets.last.reply()])
  assert.deepEqual(Sockets.last.sent.map(({ action }) => action), ['subscribe', 'subscribe', 'unsubscribe'])
})

test('publications are iterated over until the subscription ends', async () => {
  const { Sockets, connection } = await ready()
  const subscribing = connection.subscribe('news')
  Sockets.last.reply()
  const subscription = await subscribing
  const taken = (async () => {
    const all = []
    for await (const data of subscription) all.push(data)
    return all
  })()
  for (const data of [1, 2]) Sockets.last.hear({ event: 'publication', channel: 'news', data })
  Sockets.last.hear({ event: 'publication', channel: 'news', binary: 'AAEC' })
  await Promise.all([connection.unsubscribe('news'), Sockets.last.reply()])
  assert.deepEqual(await taken, [1, 2, 'AAEC'])
})

test('requests wait for the connection and are bounded; replies are waited for and not for ever', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { Sockets, connection } = open()
  await settle()
  const waiting = Array.from({ length: 1024 }, () => connection.publish('a', 1))
  waiting.forEach((request) => request.catch(() => {}))
  await assert.rejects(connection.publish('a', 1), { code: 'overloaded' })
  Sockets.last.welcome()
  await settle()
  assert.equal(Sockets.last.sent.length, 1024)
  await assert.rejects(connection.publish('a', 1), { code: 'overloaded' })
  t.mock.timers.tick(15_000)
  await assert.rejects(waiting[0], { code: 'timeout' })
})

test('fetch shows the connection id to known origins only, and follows no redirect', async () => {
  const calls = []
  const { connection } = await ready({ fetch: async (request) => calls.push(request), fetchOrigins: ['https://api.example'] })
  await connection.fetch('https://node.example/data', { headers: { a: 'b' } })
  await connection.fetch('https://api.example/data')
  for (const url of ['https://evil.example/', 'https://api.example.evil.example/', 'http://api.example/', 'https://api.example:444/']) {
    await assert.rejects(connection.fetch(url), { code: 'foreign_origin' })
  }
  assert.deepEqual(calls.map(({ url, headers, redirect }) => [url, headers.get('connectionId'), redirect]), [
    ['https://node.example/data', ID, 'error'],
    ['https://api.example/data', ID, 'error'],
  ])
  assert.equal(calls[0].headers.get('a'), 'b')
})

test('what is not secure is refused before anything is sent', () => {
  const Sockets = sockets()
  assert.throws(() => connect('ws://node.example/ws', { WebSocket: Sockets }), { code: 'insecure_context' })
  assert.equal(Sockets.made.length, 0)
  connect('ws://node.example/ws', { WebSocket: Sockets, allowInsecure: true }).close()
})

test('a hidden page holds no socket, and is verified anew when it is shown', async () => {
  const listeners = new Map()
  globalThis.addEventListener = (type, listener) => listeners.set(type, listener)
  globalThis.removeEventListener = (type) => listeners.delete(type)
  try {
    const { Sockets, connection } = await ready()
    listeners.get('pagehide')({ persisted: true })
    await settle()
    assert.deepEqual([Sockets.last.readyState, connection.state, connection.id], [3, 'waiting', null])
    listeners.get('pageshow')({ persisted: true })
    await settle()
    assert.deepEqual([Sockets.made.length, connection.state], [2, 'connecting'])
    connection.close()
    assert.equal(listeners.size, 0)
  } finally {
    delete globalThis.addEventListener
    delete globalThis.removeEventListener
  }
})

test('an origin that the node refuses is told apart from a node that is not there', async () => {
  globalThis.location = { origin: 'https://evil.example', href: 'https://evil.example/' }
  try {
    const answering = (cors, other) => async (_, { mode }) => {
      if (!(mode === 'cors' ? cors : other)) throw new TypeError('failed to fetch')
    }
    const refused = open({ fetch: answering(false, true) })
    await settle()
    refused.Sockets.last.end(1006)
    assert.equal((await refused.connection.closed).code, 'origin_refused')
    for (const fetch of [answering(false, false), answering(true, true)]) {
      const { Sockets, connection } = open({ fetch })
      await settle()
      Sockets.last.end(1006)
      await settle()
      assert.equal(connection.state, 'waiting')
      connection.close()
    }
  } finally {
    delete globalThis.location
  }
})

test('a listener that throws breaks nothing, and everything can be iterated over', async (t) => {
  const thrown = []
  t.mock.method(globalThis, 'queueMicrotask', (work) => {
    try {
      work()
    } catch (error) {
      thrown.push(error.message)
    }
  })
  const { Sockets, connection } = open()
  const events = connection.events()
  connection.on('welcome', () => {
    throw new Error('of the page')
  })
  await settle()
  Sockets.last.welcome()
  await connection.ready()
  assert.deepEqual(thrown, ['of the page'])
  const types = []
  connection.close()
  for await (const { type } of events) types.push(type)
  assert.deepEqual(types, ['state', 'welcome', 'state'])
})
