// The other side of the wire, written a second time with another library: what a node makes, and what it expects.
import { createHash, createHmac, createPublicKey, generateKeyPairSync, sign, verify } from 'node:crypto'
import { evaluate } from '../dist/modules/vm.js'
import { golden, ID } from './fake.mjs'

export const sha256 = (data) => createHash('sha256').update(data).digest()
export const u8 = (value) => Buffer.from([value])
export const u32 = (value) => Buffer.from(value.toString(16).padStart(8, '0'), 'hex')
export const u64 = (value) => Buffer.from(value.toString(16).padStart(16, '0'), 'hex')
export const b64u = (text) => Buffer.from(text, 'base64url')

/** Label and fields, each as tag, length, bytes. */
export const lay = (...fields) => Buffer.concat(fields.flatMap((field, tag) => {
  const bytes = Buffer.from(field ?? '')
  return [u8(tag), u32(bytes.length), bytes]
}))

const point = (key) => {
  const { x, y } = key.export({ format: 'jwk' })
  return Buffer.concat([u8(4), b64u(x), b64u(y)])
}

/** Does the holder of this 65-byte point say so? */
export const says = (bytes, signature, data) => {
  const key = { kty: 'EC', crv: 'P-256', x: bytes.subarray(1, 33).toString('base64url'), y: bytes.subarray(33).toString('base64url') }
  return verify('sha256', data, { key: createPublicKey({ key, format: 'jwk' }), dsaEncoding: 'ieee-p1363' }, signature)
}

/** A node's key for programs. */
export const signer = () => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { pin: point(publicKey).toString('base64url'), sign: (data) => sign('sha256', data, { key: privateKey, dsaEncoding: 'ieee-p1363' }) }
}

/** A challenge as a node sends it. */
export const challenge = (members = {}) => ({
  event: 'challenge', challenge: Buffer.alloc(16, 7).toString('base64url'), epoch: 0, form: 'vm', nonce: Buffer.alloc(32, 9).toString('base64url'),
  program: golden.vectors[0].bytecode, answerMs: 10_000, mode: 'ticket', ...members,
})

/** The same, signed. */
export const signed = ({ pin, sign }, host, hello, frame = challenge()) => {
  const name = sha256(b64u(pin)).toString('base64url')
  const data = lay(
    'countersign/frame/v1', name, host, sha256(hello), b64u(ID), b64u(frame.challenge), u32(frame.epoch), frame.form, b64u(frame.nonce),
    sha256(frame.program), frame.mode, u32(frame.answerMs), frame.work && Buffer.from([frame.work.bits, frame.work.count]), frame.file && question(frame.file),
  )
  return { ...frame, signer: name, signature: sign(data).toString('base64url') }
}

/** The tape of a file's part. */
const question = ({ path, offset, length }) => Buffer.concat([Buffer.from(path), u8(0), u64(offset), u32(length)])

/** What is wrong with an answer, or null. */
export const fault = (answer, { frame, hello, host, origin = '', topOrigin, file, lanes }) => {
  const said = JSON.parse(hello)
  const key = b64u(said.key)
  const tapes = { serverNonce: b64u(frame.nonce), clientNonce: b64u(said.nonce), connection: b64u(ID), thumbprint: sha256(key), origin, file }
  const expected = lanes ?? evaluate(b64u(frame.program), tapes)
  const T = lay(
    'countersign/answer/v1', 'countersign.v1', frame.form, host, b64u(ID), b64u(frame.challenge), u32(frame.epoch), sha256(hello), b64u(frame.nonce),
    sha256(frame.program), origin, topOrigin, sha256(key), frame.mode, frame.work && Buffer.from([frame.work.bits, frame.work.count]),
    frame.file && question(frame.file),
  )
  const K = sha256(lay('countersign/k/v1', sha256(frame.program), Buffer.concat(expected.map((lane) => u32(lane >>> 0)))))
  const mac = createHmac('sha256', K).update(T).digest()
  if (answer.origin !== origin || answer.topOrigin !== topOrigin) return 'origin'
  if (!mac.equals(b64u(answer.mac))) return 'mac'
  const isSolved = (solution, place) => {
    const digest = sha256(lay('countersign/work/v1', b64u(frame.challenge), b64u(frame.nonce), sha256(key), u8(place), u32(solution)))
    return Number.isInteger(solution) && digest.readUInt32BE() >>> (32 - frame.work.bits) === 0
  }
  if (answer.work?.length !== frame.work?.count || !(answer.work ?? []).every(isSolved)) return 'work'
  return says(key, b64u(answer.signature), lay('countersign/bind/v1', T, mac)) ? null : 'signature'
}

/** What is wrong with the headers of a call, or null. */
export const callFault = (headers, { hello, ticket, method, target, body = '', counter }) => {
  if (headers['countersign-ticket'] !== ticket.ticket) return 'ticket'
  const [version, count, nonce, digest, signature] = headers['countersign-proof'].split('.')
  if (version !== 'v1' || count !== String(counter) || nonce !== ticket.nonce) return 'form'
  if (digest !== (body === '' ? '' : sha256(body).toString('base64url'))) return 'digest'
  const data = lay('countersign/proof/v1', method, target, sha256(ticket.ticket), u64(counter), b64u(nonce), b64u(digest))
  return says(b64u(JSON.parse(hello).key), b64u(signature), data) ? null : 'signature'
}
