// Nothing is waited for without end, and whatever ended is not waited for.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ID, settle, until } from './fake.mjs'
import { challenge } from './judge.mjs'
import { open } from './opened.mjs'

const NODE = 'https://node.example'

/** The same, ready. */
const ready = async (options, welcome) => {
  const all = open(options)
  await settle()
  all.Sockets.last.welcome(welcome)
  await all.connection.ready()
  return all
}

/** What becomes of a promise: its error's code, `ok`, or nothing as yet. */
const watch = (promise) => {
  const seen = { code: undefined }
  promise.then(() => (seen.code = 'ok'), ({ code, message }) => (seen.code = code ?? message))
  return seen
}

const codes = (watched) => watched.map(({ code }) => code)

test('whatever waits for a connection ends in time', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { Sockets, connection } = open({ readyTimeoutMs: 5000, fetch: () => assert.fail('nothing can be shown') })
  const brief = watch(connection.ready(100))
  const patient = watch(connection.ready(Infinity))
  const waits = [
    connection.ready(), connection.publish('a', 1), connection.fetch(`${NODE}/`), connection.headersFor('GET', `${NODE}/`), connection.subscribe('news'),
  ].map(watch)
  t.mock.timers.tick(99)
  await settle()
  assert.equal(brief.code, undefined)
  t.mock.timers.tick(1)
  await settle()
  assert.equal(brief.code, 'timeout')
  t.mock.timers.tick(4899)
  await settle()
  assert.deepEqual(codes(waits), Array(5).fill(undefined))
  t.mock.timers.tick(1)
  await settle()
  assert.deepEqual(codes(waits), Array(5).fill('timeout'))
  // The connection goes on trying; what was given up is not asked for.
  Sockets.last.welcome()
  await settle()
  assert.deepEqual([patient.code, Sockets.last.sent], ['ok', []])
  await connection.ready()
})

test('a call that waits ends with the signal of its request', async () => {
  const { connection } = open({ fetch: () => assert.fail('nothing can be shown') })
  const controller = new AbortController()
  const { signal } = controller
  const waits = [connection.fetch(`${NODE}/`, { signal }), connection.fetch(new Request(`${NODE}/`, { signal }))].map(watch)
  await settle()
  assert.deepEqual(codes(waits), [undefined, undefined])
  controller.abort()
  await settle()
  assert.deepEqual(codes(waits), ['aborted', 'aborted'])
  await assert.rejects(connection.fetch(`${NODE}/`, { signal }), { code: 'aborted' })
})

test('what is asked for while a connection ends for good is refused at once', async () => {
  const { Sockets, connection } = await ready()
  const waits = []
  const ask = () => waits.push(...[connection.ready(), connection.publish('a', 1), connection.fetch(`${NODE}/`), connection.subscribe('a')].map(watch))
  connection.on('error', ask)
  connection.on('state', (state) => state === 'closed' && ask())
  Sockets.last.end(4410)
  await connection.closed
  ask()
  await settle()
  assert.deepEqual(codes(waits), Array(12).fill('closed'))
})

test('a handshake that ends with an error and no close is a close, and both together are one', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { Sockets, connection } = open()
  const lost = []
  connection.on('disconnected', ({ code }) => lost.push(code))
  const quiet = Sockets.last
  quiet.readyState = 0
  quiet.onerror({})
  t.mock.timers.tick(0)
  await settle()
  assert.deepEqual([lost, connection.state], [[1006], 'waiting'])
  quiet.onclose?.({ code: 1006, reason: '' })
  t.mock.timers.tick(1000)
  assert.equal(Sockets.made.length, 2)
  // A browser's: the close comes first, with its code.
  const loud = Sockets.last
  loud.onerror({})
  loud.end(4409)
  assert.equal((await connection.closed).closeCode, 4409)
  t.mock.timers.tick(10_000)
  assert.deepEqual([lost, Sockets.made.length], [[1006, 4409], 2])
})

test('closing a socket that only tells an error ends', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { Sockets, connection } = open()
  Sockets.last.close = () => Sockets.last.onerror({})
  const closing = connection.close()
  t.mock.timers.tick(0)
  assert.equal((await closing).code, 1006)
})

test('closing does not wait for a node that is gone', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { Sockets, connection } = await ready()
  Sockets.last.close = () => {}
  const closing = connection.close()
  t.mock.timers.tick(15_000)
  assert.equal((await closing).code, 1006)
})

test('a later challenge whose verdict never comes is not waited for', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { Sockets, connection } = open()
  const [socket] = Sockets.made
  await socket.greet()
  socket.reply()
  for (const epoch of [0, 1]) {
    await socket.challenge(challenge({ epoch }))
    socket.reply()
    if (epoch === 0) socket.hear({ event: 'verified', connectionId: ID })
    t.mock.timers.tick(24_999)
    await settle()
    assert.equal(connection.state, 'verified')
  }
  t.mock.timers.tick(1)
  await settle()
  assert.equal(connection.state, 'waiting')
})

test('a node that falls silent is given up at every step before the connection is ready', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const steps = [
    () => {},
    (socket) => socket.greet(),
    async (socket) => (await socket.greet(), socket.reply()),
    async (socket) => {
      await socket.greet()
      socket.reply()
      await socket.challenge(challenge({ answerMs: 7000 }))
      socket.reply()
    },
  ]
  for (const step of steps) {
    const { Sockets, connection } = open()
    const [socket] = Sockets.made
    await step(socket)
    await settle()
    t.mock.timers.tick(14_999)
    await settle()
    assert.notEqual(connection.state, 'waiting', String(step))
    t.mock.timers.tick(7_001)
    await settle()
    assert.deepEqual([Sockets.made.length > 1 || connection.state === 'waiting', socket.readyState], [true, 3], String(step))
    connection.close()
  }
})

test('a node that is slow and not silent is waited for', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { Sockets, connection } = open()
  const [socket] = Sockets.made
  t.mock.timers.tick(10_000)
  await socket.greet()
  t.mock.timers.tick(10_000)
  socket.reply()
  t.mock.timers.tick(10_000)
  await settle()
  assert.deepEqual([connection.state, socket.readyState], ['open', 1])
  t.mock.timers.tick(5_000)
  await settle()
  assert.deepEqual([connection.state, socket.readyState], ['waiting', 3])
})

test('an answer that takes long is waited for as long as the node does', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { Sockets, connection } = open({ forms: [{ name: 'slow', run: () => new Promise(() => {}) }] })
  const socket = Sockets.last
  await socket.greet()
  socket.reply()
  socket.hear(challenge({ form: 'slow', answerMs: 30_000 }))
  await settle()
  t.mock.timers.tick(30_000)
  assert.equal(socket.readyState, 1)
  t.mock.timers.tick(15_000)
  await settle()
  assert.equal(connection.state, 'waiting')
})

test('a verified connection is not given up for silence', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { Sockets, connection } = await ready()
  t.mock.timers.tick(10_000_000)
  await settle()
  assert.deepEqual([Sockets.made.length, Sockets.last.readyState, connection.id], [1, 1, ID])
})

test('a subscription that the node does not answer is asked for on the next socket', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { Sockets, connection } = await ready()
  const subscribing = watch(connection.subscribe('news'))
  await settle()
  t.mock.timers.tick(15_000)
  await settle()
  assert.deepEqual([Sockets.last.readyState, connection.state], [3, 'waiting'])
  t.mock.timers.tick(1000)
  await settle()
  Sockets.last.welcome()
  await until(() => Sockets.last.sent.find(({ action }) => action === 'subscribe'))
  Sockets.last.reply()
  await settle()
  assert.equal(subscribing.code, 'ok')
})

test('a subscription that is given up is ended at the node too', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { Sockets, connection } = await ready({ readyTimeoutMs: 1000 })
  const heard = []
  const both = [connection.subscribe('news', (data) => heard.push(data)), connection.subscribe('news')].map(watch)
  await settle()
  t.mock.timers.tick(1000)
  await settle()
  assert.deepEqual(codes(both), ['timeout', 'timeout'])
  assert.deepEqual(Sockets.last.sent.map(({ action }) => action), ['subscribe', 'unsubscribe'])
  Sockets.last.hear({ event: 'publication', channel: 'news', data: 1 })
  assert.deepEqual(heard, [])
})

test('a subscription that is made and ended while there is no connection keeps nobody waiting', async () => {
  const { Sockets, connection } = open()
  const subscribing = watch(connection.subscribe('news'))
  await connection.unsubscribe('news')
  await settle()
  assert.equal(subscribing.code, 'ok')
  Sockets.last.welcome()
  await connection.ready()
  assert.deepEqual(Sockets.last.sent, [])
})

test('who iterates over a subscription that has ended is told so', async () => {
  const { Sockets, connection } = await ready()
  const subscribed = async (channel) => {
    const subscribing = connection.subscribe(channel)
    Sockets.last.reply()
    return subscribing
  }
  const [one, two] = [await subscribed('one'), await subscribed('two')]
  one.unsubscribe().catch(() => {})
  for await (const _ of one) assert.fail('nothing comes any more')
  Sockets.last.end(4410)
  await connection.closed
  await assert.rejects(two[Symbol.asyncIterator]().next(), { closeCode: 4410 })
})

test('a request that cannot be written or sent leaves nothing behind', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { Sockets, connection } = await ready()
  const circle = {}
  circle.circle = circle
  for (let turn = 0; turn < 1024; turn += 1) await assert.rejects(connection.publish('a', circle), TypeError)
  const { send } = Sockets.last
  Sockets.last.send = () => {
    throw new Error('full')
  }
  for (let turn = 0; turn < 1024; turn += 1) await assert.rejects(connection.publish('a', 1), /full/)
  Sockets.last.send = send
  const publishing = connection.publish('a', 1)
  await settle()
  Sockets.last.reply()
  await publishing
})
