// Builds `dist/` from `src/`: modules with types, and bundles for pages. With --check it builds beside and compares, so
// that what is committed is what the sources say.
import { build } from 'esbuild'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = fileURLToPath(new URL('.', import.meta.url))
const checking = process.argv.includes('--check')
const out = checking ? mkdtempSync(join(tmpdir(), 'countersign-sdk-')) : join(here, 'dist')

const files = (folder, inside = folder) =>
  readdirSync(inside, { withFileTypes: true }).flatMap((entry) => {
    const path = join(inside, entry.name)
    return entry.isDirectory() ? files(folder, path) : [relative(folder, path)]
  })

const bundle = (name, options) =>
  build({
    absWorkingDir: here,
    entryPoints: ['src/index.ts'],
    outfile: join(out, name),
    bundle: true,
    charset: 'ascii',
    target: 'es2022',
    legalComments: 'none',
    logLevel: 'warning',
    banner: { js: '/* countersign 0.1.0, Apache-2.0 */' },
    ...options,
  })

if (!checking) rmSync(out, { recursive: true, force: true })
const compiler = createRequire(import.meta.url).resolve('typescript/bin/tsc')
const compiled = spawnSync(process.execPath, [compiler, '--project', here, '--outDir', join(out, 'modules')], { stdio: 'inherit' })
if (compiled.status !== 0) process.exit(1)
for (const minify of [false, true]) {
  const end = minify ? '.min.js' : '.js'
  await bundle(`countersign${end}`, { format: 'esm', minify })
  await bundle(`countersign.global${end}`, { format: 'iife', globalName: 'countersign', minify })
}
// What is not for every page is a module of its own.
for (const name of ['source', 'frame']) await bundle(`${name}.js`, { format: 'esm', minify: true, entryPoints: [`src/${name}.ts`] })
if (checking) {
  const dist = join(here, 'dist')
  const differs = (name) => {
    try {
      return !readFileSync(join(out, name)).equals(readFileSync(join(dist, name)))
    } catch {
      return true
    }
  }
  const stale = [...new Set([...files(out), ...files(dist)])].filter(differs)
  rmSync(out, { recursive: true, force: true })
  if (stale.length > 0) {
    console.error(`not what the sources say, run \`npm run build\`: ${stale.join(', ')}`)
    process.exit(1)
  }
}
