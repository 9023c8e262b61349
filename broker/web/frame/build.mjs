// Builds `dist/frame.js` from `src/` and what it shares with the SDK, with the SDK's tools. With --check it compares, so that
// what is committed is what the sources say.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = fileURLToPath(new URL('.', import.meta.url))
const checking = process.argv.includes('--check')
const require = createRequire(join(here, '../sdk/build.mjs'))
const { build } = require('esbuild')

const compiled = spawnSync(process.execPath, [require.resolve('typescript/bin/tsc'), '--project', here], { stdio: 'inherit' })
if (compiled.status !== 0) process.exit(1)
const outfile = join(here, 'dist/frame.js')
const { outputFiles } = await build({
  absWorkingDir: here,
  entryPoints: ['src/frame.ts'],
  outfile,
  bundle: true,
  format: 'iife',
  minify: true,
  charset: 'ascii',
  target: 'es2022',
  legalComments: 'none',
  logLevel: 'warning',
  write: !checking,
})
if (checking && outputFiles[0].text !== readFileSync(outfile, 'utf8')) {
  console.error('dist/frame.js is not what the sources say, run `node build.mjs`')
  process.exit(1)
}
