// Connections of the SDK over fake sockets, closed when the tests of a file are over.
import { after } from 'node:test'
import { sockets } from './fake.mjs'
import { connect } from '../dist/modules/index.js'

const opened = []
after(() => opened.forEach((connection) => connection.close()))

/** A connection over fake sockets, without jitter, and the codes of the errors that it tells. */
export const open = (options = {}) => {
  const Sockets = sockets()
  const connection = connect('wss://node.example/ws', { WebSocket: Sockets, random: () => 1, backoff: { first: 1000 }, ...options })
  opened.push(connection)
  const errors = []
  connection.on('error', ({ code }) => errors.push(code))
  return { Sockets, connection, errors }
}
