import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import './fake.mjs'
import { b64u, says } from './judge.mjs'
import { answer, VM } from '../dist/modules/answer.js'
import { source } from '../dist/source.js'
import { pageKey, verifies } from '../dist/modules/key.js'

const { version, key, vectors } = JSON.parse(readFileSync(new URL('../../../src/challenge/vectors/answer-v1.json', import.meta.url), 'utf8'))
const P256 = { name: 'ECDSA', namedCurve: 'P-256' }

/** The key of the vectors. */
const golden = async () => {
  const { d, ...open } = key.jwk
  return pageKey({
    privateKey: await crypto.subtle.importKey('jwk', { ...open, d }, P256, false, ['sign']),
    publicKey: await crypto.subtle.importKey('jwk', open, P256, true, ['verify']),
  })
}

// Signatures of programs have tests of their own.
const printed = { ...source(), pinned: false }

/** The node's own words for what a challenge asks. */
const asked = ({ challenge, epoch, form, nonce, program, mode, work, file }) => ({ challenge, epoch, form, nonce, program, mode, work, file, answerMs: 10_000 })

test('answers are those of the golden vectors', async () => {
  assert.equal(version, 'countersign/answer/v1')
  assert.ok(vectors.length >= 2)
  const page = await golden()
  for (const vector of vectors) {
    const { hello, host, origin, connection: connectionId, top_origin: topOrigin } = vector
    globalThis.location = { origin, hostname: origin.replace('https://', ''), ancestorOrigins: topOrigin ? [topOrigin] : [] }
    const said = await answer(asked(vector), {
      key: page, hello, clientNonce: b64u(vector.client_nonce), connectionId, host, origin, forms: [VM, printed], fetch,
    }).finally(() => delete globalThis.location)
    assert.equal(Buffer.from(page.thumbprint).toString('base64url'), vector.thumbprint)
    assert.deepEqual([said.challenge, said.epoch, said.origin, said.topOrigin], [vector.challenge, vector.epoch, origin, topOrigin ?? undefined])
    assert.equal(said.mac, vector.mac)
    assert.ok(says(Buffer.from(page.point), b64u(said.signature), b64u(vector.bind)))
    assert.ok(await verifies(page.point, b64u(vector.signature), b64u(vector.bind)))
    assert.ok(!(await verifies(page.point, b64u(vector.signature), b64u(vector.t))))
  }
})
