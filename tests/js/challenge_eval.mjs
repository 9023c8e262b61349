// Runs programs in this engine, for the differential test: printed as text, and as bytecode in the SDK's interpreter.
//
// Each line of input is a JSON array of cases; each line of output is a JSON array with the results of each:
// {source: {lanes, key, origin}, vm: {lanes}}, either {error} where it threw. Two arguments, if there are any, are a piece
// of the interpreter's text and what it is replaced with: a mistake to be caught.
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

const modules = new URL('../../broker/web/sdk/dist/modules/', import.meta.url)
const [text, mistake] = process.argv.slice(2)
const interpreter = readFileSync(new URL('vm.js', modules), 'utf8')
if (text && !interpreter.includes(text)) throw new Error(`the interpreter has no ${text}`)
const mutant = text ? interpreter.replaceAll(text, mistake) : interpreter
const { evaluate } = await import(`data:text/javascript;base64,${Buffer.from(mutant).toString('base64')}`)

const attempt = (work) => {
  try {
    return work()
  } catch (error) {
    return { error: String(error) }
  }
}

const runSource = ({ source, origin }) => {
  globalThis.location = { origin }
  // Indirect, as a page's own `eval` of a global script would see it.
  const program = (0, eval)('(' + source + ')')
  const { lanes, key, origin: claimed } = program(() => ({ keys: [] }))
  return { lanes, key, origin: claimed }
}

const bytes = (text) => text === null ? null : new Uint8Array(Buffer.from(text, 'base64url'))

const runBytecode = ({ bytecode, server, client, connection, thumbprint, origin }) => {
  const tapes = { serverNonce: bytes(server), clientNonce: bytes(client), connection: bytes(connection), thumbprint: bytes(thumbprint), origin }
  return { lanes: evaluate(bytes(bytecode), tapes) }
}

const run = (test) => ({ source: attempt(() => runSource(test)), vm: attempt(() => runBytecode(test)) })

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  process.stdout.write(JSON.stringify(JSON.parse(line).map(run)) + '\n')
}
