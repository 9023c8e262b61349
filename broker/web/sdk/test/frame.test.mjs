import assert from 'node:assert/strict'
import { test } from 'node:test'
import { until } from './fake.mjs'

const NODE = 'https://node.example'

/** A page with a window of the node's, which hears what is posted to it. */
const page = async (t) => {
  const listeners = new Set()
  const posted = []
  const frame = { postMessage: (data, target) => posted.push({ ...data, target }) }
  const made = []
  const globals = {
    location: { href: 'https://app.example/' },
    addEventListener: (_, listener) => listeners.add(listener),
    removeEventListener: (_, listener) => listeners.delete(listener),
    document: {
      createElement: () => ({ contentWindow: frame, attributes: {}, setAttribute(name, value) { this.attributes[name] = value } }),
      documentElement: { append: (element) => (made.push(element), queueMicrotask(() => element.onload())) },
    },
  }
  Object.assign(globalThis, globals)
  t.after(() => Object.keys(globals).forEach((name) => delete globalThis[name]))
  const { frame: form } = await import('../dist/frame.js')
  const hear = (data, { source = frame, origin = NODE } = {}) => [...listeners].forEach((listener) => listener({ data, source, origin }))
  return { form: form(`${NODE}/frame`, { timeoutMs: 1000 }), made, posted, hear, listeners }
}

const run = ({ form }) => form.run('handle', { clientNonce: new Uint8Array([1]), file: null }, new Uint8Array([2]))

test('the window of the node is asked, and nobody else is believed', async (t) => {
  const here = await page(t)
  const running = run(here)
  const { id, ...asked } = await until(() => here.posted[0])
  assert.deepEqual(asked, {
    countersign: 'frame/v1', handle: 'handle', transcript: new Uint8Array([2]), clientNonce: new Uint8Array([1]), file: null, target: NODE,
  })
  const mac = new Uint8Array(32).fill(7)
  const wrong = new Uint8Array(32)
  here.hear({ countersign: 'frame/v1', id, mac: wrong }, { source: {} })
  here.hear({ countersign: 'frame/v1', id, mac: wrong }, { origin: 'https://evil.example' })
  here.hear({ countersign: 'frame/v1', id: `${id}0`, mac: wrong })
  here.hear({ countersign: 'frame/v2', id, mac: wrong })
  here.hear(null)
  here.hear({ countersign: 'frame/v1', id, mac })
  assert.deepEqual(await running, mac)
  assert.equal(here.listeners.size, 0)
  assert.deepEqual([here.made.length, here.made[0].src, here.made[0].hidden], [1, `${NODE}/frame`, true])
  assert.deepEqual(here.made[0].attributes, { sandbox: 'allow-scripts allow-same-origin' })
})

test('a window that refuses, or says nothing, is a failure', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const here = await page(t)
  for (const answer of [{ error: 'origin' }, { mac: new Uint8Array(31) }, { mac: 'text' }, {}]) {
    const running = run(here)
    const { id } = await until(() => here.posted.shift())
    here.hear({ countersign: 'frame/v1', id, ...answer })
    await assert.rejects(running, /the frame/)
  }
  const silent = run(here)
  await until(() => here.posted.shift())
  t.mock.timers.tick(1000)
  await assert.rejects(silent, /no answer/)
  assert.equal(here.listeners.size, 0)
  assert.equal(here.made.length, 1)
})
