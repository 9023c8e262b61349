// What listeners, token functions and pages do while a connection comes and goes.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ID, settle, until } from './fake.mjs'
import { challenge } from './judge.mjs'
import { open } from './opened.mjs'

test('a connection that a listener closes stays closed', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const ends = [
    ['disconnected', () => true],
    ['state', (state) => state === 'waiting'],
    ['error', () => true],
  ]
  for (const [type, when] of ends) {
    let asked = 0
    const token = () => ((asked += 1) === 1 || type !== 'error' ? 't' : Promise.reject(new Error('none')))
    const { Sockets, connection } = open({ token })
    connection.on(type, (value) => when(value) && connection.close())
    await settle()
    Sockets.last.end(1012)
    for (let turn = 0; turn < 5; turn += 1) {
      await settle()
      t.mock.timers.tick(10_000)
    }
    assert.deepEqual([connection.state, Sockets.made.length], ['closed', 1], type)
  }
})

test('a connection that a listener closes as it is verified refreshes no token', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_000_000_000_000 })
  let made = 0
  const { Sockets, connection, errors } = open({ token: () => `t${(made += 1)}` })
  connection.on('state', (state) => state === 'verified' && connection.close())
  await settle()
  const socket = Sockets.last
  socket.welcome({ challenge: 'required', expiresAt: 1_000_000_000 + 3600 })
  await until(() => socket.sent.length)
  socket.reply()
  await socket.challenge(challenge())
  socket.hear({ event: 'verified', connectionId: ID })
  t.mock.timers.tick(3600_000)
  await settle()
  assert.deepEqual([connection.state, made, errors], ['closed', 1, []])
})

test('a token function that throws whatever it likes is asked again', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  for (const thrown of [undefined, null, 'text', new Error('none')]) {
    let asked = 0
    const { Sockets, errors } = open({ token: () => ((asked += 1) === 1 ? Promise.reject(thrown) : 't') })
    await settle()
    assert.deepEqual(errors, ['token_failed'], String(thrown))
    t.mock.timers.tick(1000)
    await settle()
    assert.deepEqual([asked, Sockets.made.length], [2, 1])
  }
})

test('a token that never comes is asked for again, and one that comes too late is not used', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const asked = []
  const { Sockets, connection, errors } = open({ token: () => new Promise((resolve) => asked.push(resolve)), tokenTimeoutMs: 5000 })
  t.mock.timers.tick(4999)
  assert.deepEqual([errors, connection.state], [[], 'connecting'])
  t.mock.timers.tick(1)
  assert.deepEqual([errors, connection.state], [['token_failed'], 'waiting'])
  asked[0]('late')
  await settle()
  assert.equal(Sockets.made.length, 0)
  t.mock.timers.tick(1000)
  asked[1]('good')
  await settle()
  assert.deepEqual(Sockets.made.map(({ protocols }) => protocols[1]), ['countersign.token.good'])
  // Now it is the node that is waited for.
  t.mock.timers.tick(14_999)
  assert.equal(connection.state, 'connecting')
})

test('a connection that is closed while it waits for a token leaves no timer', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { connection, errors } = open({ token: () => new Promise(() => {}) })
  connection.close()
  t.mock.timers.tick(10_000_000)
  await settle()
  assert.deepEqual(errors, [])
})

test('a refreshed token that comes after its socket is neither sent nor an error', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_000_000_000_000 })
  const asked = []
  const { Sockets, errors } = open({ token: () => new Promise((resolve, reject) => asked.push({ resolve, reject })) })
  asked[0].resolve('t1')
  await settle()
  const welcome = { expiresAt: 1_000_000_000 + 3600 }
  Sockets.last.welcome(welcome)
  t.mock.timers.tick(3240_000)
  assert.equal(asked.length, 2)
  Sockets.last.end(1012)
  await settle()
  t.mock.timers.tick(1000)
  asked[2].resolve('t3')
  await settle()
  Sockets.last.welcome({ expiresAt: 1_000_000_000 + 7200 })
  asked[1].reject(new Error('too late'))
  await settle()
  assert.deepEqual([errors, Sockets.made.map(({ sent }) => sent.length)], [[], [0, 0]])
  t.mock.timers.tick(3600_000)
  assert.equal(asked.length, 4, 'one refreshment at a time')
})

test('a token that comes while the page is hidden opens no socket', async () => {
  const listeners = new Map()
  globalThis.addEventListener = (type, listener) => listeners.set(type, listener)
  globalThis.removeEventListener = (type) => listeners.delete(type)
  try {
    const asked = []
    const { Sockets, connection } = open({ token: () => new Promise((resolve) => asked.push(resolve)) })
    listeners.get('pagehide')({})
    asked[0]('hidden')
    await settle()
    assert.deepEqual([Sockets.made.length, connection.state], [0, 'waiting'])
    listeners.get('pageshow')({})
    listeners.get('pageshow')({})
    asked[1]('shown')
    await settle()
    assert.deepEqual([asked.length, Sockets.made.length], [2, 1])
    connection.close()
  } finally {
    delete globalThis.addEventListener
    delete globalThis.removeEventListener
  }
})
