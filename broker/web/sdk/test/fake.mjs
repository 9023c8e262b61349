// A socket without a network, and a node that says what the test tells it to.
import { webcrypto } from 'node:crypto'
import { readFileSync } from 'node:fs'

// Not there in Node.js 18.
globalThis.crypto ??= webcrypto

/** A class of sockets that remembers those that were made. */
export function sockets() {
  return class FakeSocket {
    static made = []
    readyState = 1
    sent = []
    texts = []

    constructor(url, protocols) {
      Object.assign(this, { url, protocols })
      FakeSocket.made.push(this)
    }

    static get last() {
      return FakeSocket.made.at(-1)
    }

    send(text) {
      this.texts.push(text)
      this.sent.push(JSON.parse(text))
    }

    close(code = 1000) {
      this.end(code, 'bye')
    }

    hear(frame) {
      this.onmessage({ data: typeof frame === 'string' ? frame : JSON.stringify(frame) })
    }

    end(code, reason = '') {
      if (this.readyState === 3) return
      this.readyState = 3
      queueMicrotask(() => this.onclose?.({ code, reason }))
    }

    /** Replies to the latest request. */
    reply(reply = { ok: {} }) {
      this.hear({ id: this.sent.at(-1).id, ...reply })
    }

    /** Says that it has to be challenged; the client's hello. */
    async greet() {
      this.welcome({ challenge: 'required' })
      return until(() => this.texts.find((text) => JSON.parse(text).action === 'hello'))
    }

    /** Challenges; the answer. */
    async challenge(frame) {
      const before = this.sent.length
      this.hear(frame)
      return until(() => this.sent.slice(before).find(({ action }) => action === 'answer'))
    }

    welcome(members = {}) {
      this.hear({ event: 'welcome', connectionId: ID, challenge: 'off', subject: null, expiresAt: null, ...members })
    }
  }
}

export const ID = '8PHy8_T19vf4-fr7_P3-_w'
export const golden = JSON.parse(readFileSync(new URL('../../../src/challenge/vectors/vm-v1.json', import.meta.url), 'utf8'))

/** Lets everything happen that is due. */
export const settle = async () => {
  for (let turn = 0; turn < 20; turn += 1) await null
}

/** Waits until something is there: cryptography takes as many turns as it takes. */
export const until = async (what) => {
  for (let turn = 0; turn < 100_000; turn += 1) {
    const found = what()
    if (found) return found
    await new Promise((resolve) => setImmediate(resolve))
  }
  throw new Error(`waited in vain: ${what}`)
}
