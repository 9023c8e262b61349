import assert from 'node:assert/strict'
import { test } from 'node:test'
import { source } from '../dist/source.js'

const run = (program) => source().run(program, {}, new Uint8Array())

test('a printed program that gives anything but eight lanes is a failure', async () => {
  assert.deepEqual(await run('function(){return{lanes:[1,-2,3,4,5,6,7,8]}}'), [1, -2, 3, 4, 5, 6, 7, 8])
  const wrong = ['{}', '{lanes:[1,2,3,4,5,6,7]}', '{lanes:[1,2,3,4,5,6,7,8.5]}', '{lanes:[1,2,3,4,5,6,7,"8"]}', '{lanes:new Uint8Array(32)}', '{lanes:[1,2,3,4,5,6,7,4294967296]}']
  for (const made of wrong) await assert.rejects(run(`function(){return${made}}`), /no lanes/, made)
  for (const text of ['', '1', 'function(){throw Error("no")}', 'function(){']) await assert.rejects(run(text), undefined, text)
})

test('where the page asks for trusted types, programs pass through the one policy of that name', async () => {
  const made = []
  globalThis.trustedTypes = { createPolicy: (name, rules) => (made.push(name), rules) }
  try {
    for (let turn = 0; turn < 2; turn += 1) await run('function(){return{lanes:[1,2,3,4,5,6,7,8]}}')
    assert.deepEqual(made, ['countersign'])
  } finally {
    delete globalThis.trustedTypes
  }
})
