// Runs printed programs in this engine, for the differential test.
//
// Each line of input is a JSON array of pairs [source, origin]; each line of output is a JSON array with the result of
// each: {lanes, key, origin}, or {error} where the function threw.
import { createInterface } from 'node:readline'

const run = ([source, origin]) => {
  globalThis.location = { origin }
  try {
    // Indirect, as a page's own `eval` of a global script would see it.
    const program = (0, eval)('(' + source + ')')
    const { lanes, key, origin: claimed } = program(() => ({ keys: [] }))
    return { lanes, key, origin: claimed }
  } catch (error) {
    return { error: String(error) }
  }
}

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  process.stdout.write(JSON.stringify(JSON.parse(line).map(run)) + '\n')
}
