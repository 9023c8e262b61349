import assert from 'node:assert/strict'
import { test } from 'node:test'
import { until } from './fake.mjs'

const NODE = 'https://node.example'

/** A page with windows of the node's, which hear what is posted to them; `loads` says whether a new one does by itself. */
const page = async (t, loads = () => true) => {
  const listeners = new Set()
  const observers = new Set()
  const posted = []
  const made = []
  const element = () => {
    const window = { postMessage: (data, target) => posted.push({ ...data, target, window }) }
    return {
      contentWindow: window,
      attributes: {},
      setAttribute(name, value) { this.attributes[name] = value },
      remove() {
        this.contentWindow = null
        observers.forEach((changed) => changed())
      },
    }
  }
  const globals = {
    location: { href: 'https://app.example/' },
    addEventListener: (_, listener) => listeners.add(listener),
    removeEventListener: (_, listener) => listeners.delete(listener),
    document: {
      createElement: element,
      documentElement: {
        append(element) {
          made.push(element)
          if (loads(made.length)) queueMicrotask(() => element.onload())
        },
      },
    },
    MutationObserver: class {
      constructor(changed) { this.changed = changed }
      observe() { observers.add(this.changed) }
      disconnect() { observers.delete(this.changed) }
    },
  }
  Object.assign(globalThis, globals)
  t.after(() => Object.keys(globals).forEach((name) => delete globalThis[name]))
  const { frame: form } = await import('../dist/frame.js')
  const hear = (data, { source = made.at(-1).contentWindow, origin = NODE } = {}) => [...listeners].forEach((listener) => listener({ data, source, origin }))
  return { form: form(`${NODE}/frame`, { timeoutMs: 1000 }), made, posted, hear, listeners, observers }
}

const run = ({ form }) => form.run('handle', { clientNonce: new Uint8Array([1]), file: null }, new Uint8Array([2]))

test('the window of the node is asked, and nobody else is believed', async (t) => {
  const here = await page(t)
  const running = run(here)
  const { id, window, ...asked } = await until(() => here.posted[0])
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
  assert.deepEqual([here.listeners.size, here.observers.size], [0, 0])
  assert.equal(here.made.length, 1)
})

const mac = new Uint8Array(32).fill(9)

/** Answers the next question, from the window that was asked. */
const answered = async (here, running) => {
  const { id, window } = await until(() => here.posted.shift())
  here.hear({ countersign: 'frame/v1', id, mac }, { source: window })
  assert.deepEqual(await running, mac)
  return window
}

test('a window that the page took away is made anew', async (t) => {
  const here = await page(t)
  const first = await answered(here, run(here))
  assert.equal(await answered(here, run(here)), first, 'one that is there is asked again')
  here.made[0].remove()
  const second = await answered(here, run(here))
  assert.notEqual(second, first)
  // Put elsewhere in the document it is another window, in which nothing is loaded yet.
  here.made[1].contentWindow = { postMessage: () => assert.fail('nobody is there') }
  await answered(here, run(here))
  assert.equal(here.made.length, 3)
  assert.deepEqual([here.listeners.size, here.observers.size], [0, 0])
})

test('a window that is taken away while it loads or runs is made anew at once, and not for ever', async (t) => {
  const here = await page(t, (number) => number !== 1)
  const running = run(here)
  await until(() => here.observers.size)
  here.made[0].remove()
  await until(() => here.posted.shift())
  here.made[1].remove()
  await answered(here, running)
  assert.equal(here.made.length, 3)
  const hopeless = run(here)
  for (const place of [2, 3, 4]) {
    await until(() => here.posted.shift())
    here.made[place].remove()
  }
  await assert.rejects(hopeless, /taken away/)
  assert.deepEqual([here.made.length, here.listeners.size, here.observers.size], [5, 0, 0])
  await answered(here, run(here))
})

test('a window that never loads is given up, and the next program gets another', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const here = await page(t, (number) => number !== 1)
  const both = [run(here), run(here)]
  await until(() => here.observers.size)
  t.mock.timers.tick(1000)
  for (const running of both) await assert.rejects(running, /no answer/)
  assert.equal(here.made[0].contentWindow, null, 'it is taken out')
  await answered(here, run(here))
  assert.equal(here.made.length, 2)
})

test('a window that is silent is replaced, one that refuses is not', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const here = await page(t)
  const refused = run(here)
  here.hear({ countersign: 'frame/v1', id: (await until(() => here.posted.shift())).id, error: 'program' })
  await assert.rejects(refused, /program/)
  const silent = run(here)
  await until(() => here.posted.shift())
  assert.equal(here.made.length, 1)
  t.mock.timers.tick(1000)
  await assert.rejects(silent, /no answer/)
  await answered(here, run(here))
  assert.equal(here.made.length, 2)
})
