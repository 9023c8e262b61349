// Runs challenge programs in whatever engine this is: printed as text, and as bytecode in the SDK's interpreter, whose
// `evaluate` stands in front of this text. It uses nothing that is not in the language itself, so that every engine has it.
//
// `runCases` takes a JSON array of cases and gives a JSON array with the results of each:
// {source: {lanes, key, origin}, vm: {lanes}}, either {error} where it threw.
const runCases = (() => {
  const attempt = (work) => {
    try {
      return work()
    } catch (error) {
      return { error: String(error) }
    }
  }

  // Until the engine has compiled it as well as it can, the result must not change.
  const rerun = (times, first, work) => {
    for (let time = 0; time < times; time++) {
      if (String(work().lanes) !== String(first.lanes)) throw Error(`other lanes in rerun ${time}`)
    }
    return first
  }

  const runSource = ({ source, origin, hostname, reruns }) => {
    // A page has this location; here it is put in front of the engine's own, if it has one.
    const program = Function('location', `return (${source})`)({ origin, hostname })
    const run = () => program(() => ({ keys: [] }))
    const { lanes, key, origin: claimed } = rerun(reruns, run(), run)
    return { lanes, key, origin: claimed }
  }

  const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  const SEXTETS = new Uint8Array(128)
  for (let at = 0; at < 64; at++) SEXTETS[ALPHABET.charCodeAt(at)] = at

  // Canonical base64url; our own, for not every engine has a decoder.
  const bytes = (text) => {
    if (text === null) return null
    const out = new Uint8Array((text.length * 3) >> 2)
    for (let at = 0, to = 0, held = 0, bits = 0; at < text.length; at++) {
      held = ((held << 6) | SEXTETS[text.charCodeAt(at)]) & 0xffff
      bits += 6
      if (bits >= 8) out[to++] = (held >> (bits -= 8)) & 255
    }
    return out
  }

  const runBytecode = ({ bytecode, server, client, connection, thumbprint, file, origin, reruns }) => {
    const tapes = { serverNonce: bytes(server), clientNonce: bytes(client), connection: bytes(connection), thumbprint: bytes(thumbprint), origin, file: bytes(file) }
    const program = bytes(bytecode)
    const run = () => ({ lanes: evaluate(program, tapes) })
    return rerun(reruns, run(), run)
  }

  const run = (test) => ({ source: attempt(() => runSource(test)), vm: attempt(() => runBytecode(test)) })
  return (cases) => JSON.stringify(JSON.parse(cases).map(run))
})()
