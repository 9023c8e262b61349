// The browser client of a Countersign node. What it does by itself is told in the README beside the package.

import { Connection } from './connection.js'
import type { Options } from './connection.js'

/** Connects to a node: `wss://…`, `https://…` or a path of the page's own origin. Throws where that cannot be secure;
 * everything that fails later is an `error` event, and the end of `closed`. */
export function connect(url: string | URL, options: Options = {}): Connection {
  return new Connection(url, options)
}

export { CountersignError } from './errors.js'
export type { Form } from './answer.js'
export type { BackoffOptions } from './backoff.js'
export type { Connection, ConnectionEvent, Options, State } from './connection.js'
export type { ClientErrorCode, ErrorCode, NodeErrorCode } from './errors.js'
export type { Closed, SocketLike } from './session.js'
export type { Handler, Subscription } from './subscription.js'
export type { Tapes } from './vm.js'
export type { Answer, Challenge, Mode, Publication, Ticket } from './wire.js'
