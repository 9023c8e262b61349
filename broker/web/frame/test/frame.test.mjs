// The built script as a browser runs it, against the golden programs: what it answers with, and what it refuses.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { confirm, integer, sha256, transcript } from '../../sdk/dist/modules/transcript.js'

const read = (path) => readFileSync(new URL(path, import.meta.url), 'utf8')
const script = read('../dist/frame.js')
const [golden] = JSON.parse(read('../../../src/challenge/vectors/vm-v1.json')).vectors
const bytes = (hex) => new Uint8Array(Buffer.from(hex, 'hex'))
const PAGE = golden.origin
const HOST = 'node.example:8443'
const HANDLE = 'A'.repeat(32)

/** A frame inside of a page, which hears what it posts; its node has the golden program. */
const frame = ({ ancestors = [PAGE], status = 200, text = golden.bytecode } = {}) => {
  const fetched = []
  const posted = []
  let heard = () => {}
  const parent = { postMessage: (data, target) => (posted.push({ data, target }), heard()) }
  let hear
  const window = { parent }
  const location = { host: HOST, ancestorOrigins: ancestors }
  const fetch = async (url, options) => (fetched.push({ url, ...options }), { ok: status === 200, status, text: async () => text })
  new Function('window', 'location', 'fetch', 'addEventListener', script)(window, location, fetch, (_, listener) => (hear = listener))
  const say = (data, { source = parent, origin = PAGE } = {}) => hear({ data, source, origin })
  const reply = async () => {
    while (posted.length === 0) await new Promise((resolve) => (heard = resolve))
    return posted.shift()
  }
  return { say, reply, posted, fetched, window }
}

/** T of the golden program, after a change to its fields. */
const terms = async (change = {}) => {
  const fields = {
    label: 'countersign/answer/v1', version: 'countersign.v1', form: 'frame', host: HOST, connection: bytes(golden.connection),
    challenge: new Uint8Array(16), epoch: integer(golden.epoch, 4), hello: new Uint8Array(32), nonce: bytes(golden.server_nonce),
    program: await sha256(golden.bytecode), origin: PAGE, topOrigin: null, thumbprint: bytes(golden.thumbprint), mode: 'ticket',
    work: null, file: null, ...change,
  }
  return transcript(...Object.values(fields))
}

const question = async (change, T) => ({
  countersign: 'frame/v1', id: '1', handle: HANDLE, transcript: T ?? (await terms(change)), clientNonce: bytes(golden.client_nonce),
})

const told = async (here, asked, from) => {
  here.say(asked, from)
  const { data, target } = await here.reply()
  assert.equal(target, from?.origin ?? PAGE, 'to the origin that asked alone')
  assert.deepEqual([data.countersign, data.id, data.mac === undefined], ['frame/v1', '1', data.error !== undefined])
  return data
}

test('the MAC over the transcript comes back, and nothing of the program', async () => {
  const here = frame()
  const asked = await question()
  const { mac, ...rest } = await told(here, asked)
  const lanes = golden.key.match(/.{8}/g).map((word) => parseInt(word, 16))
  assert.deepEqual(mac, await confirm(await sha256(golden.bytecode), lanes, asked.transcript))
  assert.deepEqual(Object.keys(rest), ['countersign', 'id'])
  assert.deepEqual(here.fetched, [{ url: `/challenge/program/${HANDLE}`, cache: 'no-store', credentials: 'omit', redirect: 'error' }])
})

test('a transcript that does not say what the frame sees gets no MAC, and uses no handle up', async () => {
  for (const [change, error] of [
    [{ label: 'countersign/answer/v2' }, 'transcript'],
    [{ version: 'countersign.v0' }, 'transcript'],
    [{ form: 'vm' }, 'transcript'],
    [{ host: 'evil.example' }, 'host'],
    [{ origin: 'https://evil.example' }, 'origin'],
    [{ topOrigin: 'https://evil.example' }, 'topOrigin'],
  ]) {
    const here = frame()
    assert.equal((await told(here, await question(change))).error, error)
    assert.equal(here.fetched.length, 0)
  }
  const good = await terms()
  const one = (at, byte) => good.map((was, place) => (place === at ? byte : was))
  for (const T of [new Uint8Array(0), good.slice(0, -1), new Uint8Array([...good, 16, 0, 0, 0, 0]), good.slice(0, -5), one(0, 1), one(1, 255)]) {
    const here = frame()
    assert.equal((await told(here, await question({}, T))).error, 'transcript')
    assert.equal(here.fetched.length, 0)
  }
})

test('the origin is the one that the browser names, whatever the page would have', async () => {
  const from = { origin: 'https://evil.example' }
  assert.equal((await told(frame({ ancestors: [from.origin] }), await question(), from)).error, 'origin')
})

test('a page inside of another names the one at the top', async () => {
  const topOrigin = 'https://top.example'
  assert.equal((await told(frame({ ancestors: [PAGE, topOrigin] }), await question())).error, 'topOrigin')
  assert.ok((await told(frame({ ancestors: [PAGE, topOrigin] }), await question({ topOrigin }))).mac)
  assert.ok((await told(frame({ ancestors: null }), await question({ topOrigin }))).mac, 'where the browser does not tell')
})

test('the program is the one that the page will sign for', async () => {
  assert.equal((await told(frame(), await question({ program: new Uint8Array(32) }))).error, 'program')
  assert.equal((await told(frame({ status: 404 }), await question())).error, 'program: 404')
  for (const handle of ['', 'a/../b', `${HANDLE}A`, 7, null]) {
    const here = frame()
    assert.equal((await told(here, { ...(await question()), handle })).error, 'handle')
    assert.equal(here.fetched.length, 0)
  }
  assert.equal((await told(frame({ text: 'AQ' }), await question({ program: await sha256('AQ') }))).error, 'short')
})

test('the frame hears its parent alone, and messages of this protocol', async () => {
  const here = frame()
  const asked = await question()
  here.say(asked, { source: {} })
  here.say(asked, { source: null })
  for (const other of [null, undefined, 'text', 7, { ...asked, countersign: 'frame/v2' }]) here.say(other)
  here.say({ ...asked, id: 'last', handle: '' })
  assert.equal((await here.reply()).data.id, 'last')
  assert.deepEqual([here.posted.length, here.fetched.length], [0, 0])
  // Opened as a page of its own it has no parent but itself.
  const alone = frame()
  alone.window.parent = alone.window
  alone.say(asked, { source: alone.window })
  assert.equal(alone.fetched.length, 0)
})
