import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { Backoff } from '../dist/modules/backoff.js'
import { CLOSE_CODES } from '../dist/modules/close-codes.js'
import { mayReconnect, retryHint } from '../dist/modules/close.js'
import { isSecure } from '../dist/modules/page.js'
import { Queue } from '../dist/modules/queue.js'
import { isReply, parse } from '../dist/modules/wire.js'

test('the close codes are those of the node', () => {
  const source = readFileSync(new URL('../../../src/close.rs', import.meta.url), 'utf8')
  const rows = [...source.matchAll(/row\(Self::\w+, (\d+), "([^"]+)", (true|false)\)/g)]
  assert.deepEqual(CLOSE_CODES, rows.map(([, code, text, again]) => [Number(code), text, again === 'true']))
  assert.ok(rows.length >= 17)
})

test('only codes that allow it are reconnected after', () => {
  for (const [code, , again] of CLOSE_CODES) assert.equal(mayReconnect(code), again, String(code))
  for (const code of [1005, 1006, 1011, 1014, 1015]) assert.ok(mayReconnect(code))
  for (const code of [1004, 1010, 3000, 4000, 4499, 4999]) assert.ok(!mayReconnect(code), String(code))
})

test('a hint is read from the end of a reason, and is bounded', () => {
  assert.equal(retryHint('node restarts, reconnect in 1234 ms'), 1234)
  assert.equal(retryHint('node restarts, reconnect in 0 ms'), 0)
  assert.equal(retryHint('node restarts, reconnect in 999999999 ms'), 600_000)
  for (const reason of ['', 'reconnect in -1 ms', 'reconnect in 1e3 ms', 'reconnect in 9999999999 ms', 'reconnect in 5 ms or so']) {
    assert.equal(retryHint(reason), null, reason)
  }
})

test('pauses double up to their bound, in the upper half of their range', () => {
  const pauses = (random) => {
    const backoff = new Backoff({ first: 100, max: 1000 }, () => random)
    return [1, 2, 3, 4, 5, 6].map(() => backoff.next(null))
  }
  assert.deepEqual(pauses(0), [50, 100, 200, 400, 500, 500])
  assert.deepEqual(pauses(1), [100, 200, 400, 800, 1000, 1000])
  const backoff = new Backoff({}, () => 0.5)
  assert.equal(backoff.next(2000), 2100, 'never before the hint')
  for (let turn = 0; turn < 5000; turn += 1) assert.ok(backoff.next(null) <= 30_000)
  backoff.reset()
  assert.equal(backoff.next(null), 375)
})

test('frames are read strictly where this client relies on them', () => {
  const welcome = { event: 'welcome', connectionId: 'x', challenge: 'off', subject: null, expiresAt: null }
  assert.deepEqual(parse(JSON.stringify({ ...welcome, newer: 1 })), { ...welcome, newer: 1 })
  assert.deepEqual(parse('{"event":"of_the_future","a":1}'), { event: 'of_the_future', a: 1 })
  assert.deepEqual(parse('{"event":"constructor"}'), { event: 'constructor' })
  assert.ok(isReply(parse('{"id":1,"ok":{}}')))
  assert.ok(isReply(parse('{"id":1,"error":{"code":"denied","message":"no"}}')))
  const wrong = ['', 'null', '[]', '7', '"x"', '{}', '{"id":1}', '{"id":"1","ok":{}}', '{"id":1,"ok":[]}', '{"id":1,"error":{"code":1}}',
    '{"event":"welcome"}', '{"event":"verified","connectionId":1}', '{"event":"publication"}', '{"event":7}', '{"event":"verified"']
  for (const text of wrong) assert.equal(parse(text), null, text)
  assert.equal(parse(new ArrayBuffer(2)), null)
})

test('a queue gives out in order, ends once, and does not grow without bound', async () => {
  let released = 0
  const queue = new Queue(2, () => (released += 1))
  const early = queue.next()
  queue.push('a')
  assert.deepEqual(await early, { value: 'a', done: false })
  queue.push('b')
  queue.push('c')
  assert.equal((await queue.next()).value, 'b')
  queue.push('d')
  queue.push('e')
  await assert.rejects(queue.next(), { code: 'slow_consumer' })
  assert.deepEqual(await queue.next(), { value: undefined, done: true })
  assert.equal(released, 1)
  const left = new Queue(2, () => (released += 1))
  left.push('a')
  for await (const value of left) {
    assert.equal(value, 'a')
    break
  }
  assert.equal(released, 2)
})

test('addresses of this machine are secure without TLS, others are not', () => {
  for (const url of ['wss://a.example', 'ws://localhost:1', 'ws://x.localhost', 'ws://127.0.0.1', 'ws://127.1.2.3:9', 'ws://[::1]:8']) {
    assert.ok(isSecure(new URL(url)), url)
  }
  for (const url of ['ws://a.example', 'ws://localhost.example', 'ws://127.0.0.1.example', 'ws://10.0.0.1']) {
    assert.ok(!isSecure(new URL(url)), url)
  }
})

test('no_eval_by_default', () => {
  const dist = new URL('../dist/', import.meta.url)
  const code = (name) => readFileSync(new URL(name, dist), 'utf8').replace(/\/\/.*|\/\*[^]*?\*\//g, '')
  const evaluates = (name) => /\beval\b|\bFunction\b|\bimport\s*\(|\bsetTimeout\(['"`]|Worker\b|WebAssembly|createObjectURL|innerHTML/.test(code(name))
  const files = readdirSync(dist, { recursive: true }).filter((name) => name.endsWith('.js'))
  assert.ok(files.length > 15)
  assert.deepEqual(files.filter(evaluates).sort(), ['modules/source.js', 'source.js'])
  // Nor do they load what does.
  for (const name of files.filter((name) => !name.endsWith('source.js'))) assert.ok(!/['"`][^'"`\n]*source\.js['"`]/.test(code(name)), name)
})

test('the module for pages has at most 8 kB', () => {
  const size = gzipSync(readFileSync(new URL('../dist/countersign.min.js', import.meta.url)), { level: 9 }).length
  assert.ok(size <= 8000, String(size))
})
