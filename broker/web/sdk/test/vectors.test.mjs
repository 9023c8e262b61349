import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import './fake.mjs'
import { b64u, says } from './judge.mjs'
import { answer, VM } from '../dist/modules/answer.js'
import { source } from '../dist/source.js'
import { pageKey, verifies } from '../dist/modules/key.js'
import { proof } from '../dist/modules/proof.js'

const read = (path) => JSON.parse(readFileSync(new URL(`../../../src/${path}`, import.meta.url), 'utf8'))
const { version, key, vectors } = read('challenge/vectors/answer-v1.json')
const P256 = { name: 'ECDSA', namedCurve: 'P-256' }

/** The key of the vectors. */
const golden = async () => {
  const { d, ...open } = key.jwk
  return pageKey({
    privateKey: await crypto.subtle.importKey('jwk', { ...open, d }, P256, false, ['sign']),
    publicKey: await crypto.subtle.importKey('jwk', open, P256, true, ['verify']),
  })
}

// The vectors are not signed.
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
      key: page, hello, clientNonce: b64u(vector.client_nonce), connectionId, host, origin, mode: 'bearer', forms: [VM, printed], fetch,
    }).finally(() => delete globalThis.location)
    const unsigned = answer(asked({ ...vector, form: 'source' }), { key: page, hello, connectionId, host, origin, mode: 'bearer', forms: [source()] })
    await assert.rejects(unsigned, { code: 'program_unsigned' })
    assert.equal(Buffer.from(page.thumbprint).toString('base64url'), vector.thumbprint)
    assert.deepEqual([said.challenge, said.epoch, said.origin, said.topOrigin], [vector.challenge, vector.epoch, origin, topOrigin ?? undefined])
    assert.equal(said.mac, vector.mac)
    assert.ok(says(Buffer.from(page.point), b64u(said.signature), b64u(vector.bind)))
    assert.ok(await verifies(page.point, b64u(vector.signature), b64u(vector.bind)))
    assert.ok(!(await verifies(page.point, b64u(vector.signature), b64u(vector.t))))
  }
})

test('proofs are those of the golden vectors', async () => {
  const { publicKey, vectors } = read('ticket/vectors/proof-v1.json')
  assert.ok(vectors.length >= 2)
  for (const { method, target, ticket, counter, nonce, bodyDigest, message, proof: expected } of vectors) {
    const signature = b64u(expected.split('.').at(-1))
    assert.ok(says(b64u(publicKey), signature, b64u(message)))
    // The body that the vectors have the digest of.
    const body = new TextEncoder().encode(bodyDigest ? '{"hello":"world"}' : '').buffer
    const key = {
      count: () => counter,
      sign: async (data) => {
        assert.equal(Buffer.from(data).toString('base64url'), message)
        return signature
      },
    }
    assert.equal(await proof(key, { ticket, nonce }, method, new URL(`https://${target}#not this`), body), expected)
  }
})

test('signed programs are those of the golden vectors, with what is asked beside them', async () => {
  const { pin, vectors } = read('challenge/vectors/frame-v1.json')
  assert.ok(vectors.some(({ work, file }) => work && file))
  const key = await golden()
  for (const { host, hello, connection: connectionId, message, ...frame } of vectors) {
    const fetch = async () => new Response('23456', { status: 206 })
    const forms = [{ name: frame.form, run: async () => [1, 2, 3, 4, 5, 6, 7, 8] }]
    const run = (changed) =>
      answer({ ...frame, ...changed }, { key, hello, clientNonce: new Uint8Array(32), connectionId, host, origin: 'https://a.example', mode: 'bearer', pins: [pin], forms, files: '/assets/', fetch })
    await run({})
    for (const changed of [{ work: { bits: 4, count: 3 } }, { file: { path: '/assets/b', offset: 2, length: 5 } }]) {
      await assert.rejects(run(changed), { code: 'program_unsigned' })
    }
  }
})
