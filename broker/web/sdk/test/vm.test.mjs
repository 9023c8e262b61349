import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { evaluate, ProgramError } from '../dist/modules/vm.js'
import { decode, encode } from '../dist/modules/base64url.js'

const golden = JSON.parse(readFileSync(new URL('../../../src/challenge/vectors/vm-v1.json', import.meta.url), 'utf8'))
const bytes = (hex) => hex === null ? null : new Uint8Array(Buffer.from(hex, 'hex'))
const hex = (lanes) => lanes.map((lane) => (lane >>> 0).toString(16).padStart(8, '0')).join('')
const tapes = (vector) => ({
  serverNonce: bytes(vector.server_nonce),
  clientNonce: bytes(vector.client_nonce),
  connection: bytes(vector.connection),
  thumbprint: bytes(vector.thumbprint),
  origin: vector.origin ?? '',
})
const refusal = (why) => (error) => error instanceof ProgramError && error.message === why

test('golden vectors hold', () => {
  assert.equal(golden.version, 'countersign/vm/v1')
  assert.equal(golden.vectors.length, 4)
  for (const vector of golden.vectors) assert.equal(hex(evaluate(decode(vector.bytecode), tapes(vector))), vector.key)
})

test('what is no program is refused by name', () => {
  const [vector] = golden.vectors
  assert.ok(golden.refused.length > 20)
  for (const { why, bytecode } of golden.refused) {
    assert.throws(() => evaluate(decode(bytecode), tapes(vector)), refusal(why), why)
  }
})

test('fuel and tapes are checked before the first step', () => {
  const vector = golden.vectors.find(({ operations }) => operations === 1024)
  const good = tapes(vector)
  const program = decode(vector.bytecode)
  // The same fold of the origin again and again: 7 of 513 units fit, 8 do not.
  const header = program.slice(0, 54)
  const fold = [header[21], 0, 4, 1, 0, 0, 0, 1]
  const folds = (count) => new Uint8Array([...header, ...Array(count).fill(fold).flat()])
  const long = { ...good, origin: 'a'.repeat(512) }
  assert.equal(evaluate(folds(7), long).length, 8)
  assert.throws(() => evaluate(folds(8), long), refusal('fuel'))
  assert.throws(() => evaluate(program, { ...good, origin: 'a'.repeat(513) }), refusal('origin'))
  assert.throws(() => evaluate(program, { ...good, origin: 'https://b\u00fccher.example' }), refusal('origin'))
  assert.throws(() => evaluate(program, { ...good, connection: new Uint8Array(15) }), refusal('tape'))
})

test('arbitrary bytes are refused or run, and nothing else', () => {
  const [vector] = golden.vectors
  const program = decode(vector.bytecode)
  for (let at = 0; at < program.length; at += 1) {
    for (const flip of [1, 0x80, 0xff]) {
      const changed = program.slice()
      changed[at] ^= flip
      try {
        assert.equal(evaluate(changed, tapes(vector)).length, 8)
      } catch (error) {
        assert.ok(error instanceof ProgramError, String(error))
      }
    }
  }
})

test('programs that are views into larger buffers are read at their place', () => {
  const [vector] = golden.vectors
  const program = decode(vector.bytecode)
  const larger = new Uint8Array(program.length + 7)
  larger.set(program, 3)
  assert.equal(hex(evaluate(larger.subarray(3, 3 + program.length), tapes(vector))), vector.key)
})

test('base64url is canonical', () => {
  for (let length = 0; length < 70; length += 1) {
    const raw = Uint8Array.from({ length }, (_, place) => (place * 37 + length) & 255)
    const text = encode(raw)
    assert.equal(text, Buffer.from(raw).toString('base64url'))
    assert.deepEqual(decode(text), raw)
  }
  for (const text of ['A', 'AB', 'AAB', 'AA==', 'A+', 'A/', ' AA', 'AAAAA', '\u00e9A']) assert.equal(decode(text), null, text)
})
