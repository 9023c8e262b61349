// The close codes of a node, as its own table has them (broker/src/close.rs); a test holds the two equal. For those who
// show them: the client itself does without the texts.

/** Code, text on the wire, and whether a client may reconnect unchanged. */
export const CLOSE_CODES: ReadonlyArray<readonly [code: number, text: string, reconnect: boolean]> = [
  [1000, 'bye', false],
  [1001, 'idle for too long', true],
  [1002, 'protocol error', false],
  [1003, 'this kind of message is not taken here', false],
  [1007, 'text is not UTF-8', false],
  [1008, 'message was not completed in time', false],
  [1009, 'message too large', false],
  [1012, 'node restarts, reconnect', true],
  [1013, 'at capacity, try again later', true],
  [4400, 'bad request', false],
  [4401, 'token invalid or expired', false],
  [4403, 'challenge failed', false],
  [4408, 'challenge not answered in time', false],
  [4409, 'superseded by a newer connection', false],
  [4410, 'disconnected by the server', false],
  [4429, 'rate limit or slow consumer', false],
  [4500, 'internal error, reconnect', true],
]
