// A program of Node.js that uses the SDK with a socket and a key of its own. Given the node's origin and a mode, it prints what
// it saw as one line of JSON.
import { createHash, randomBytes, webcrypto } from 'node:crypto';
import { request } from 'node:http';

// Not there in Node.js 18.
globalThis.crypto ??= webcrypto;

const { connect } = await import(new URL('../../broker/web/sdk/dist/countersign.js', import.meta.url));
const [node, mode] = process.argv.slice(2);

/** As much of a WebSocket as a client of short text frames needs. */
class Socket {
  readyState = 0;
  #stream;
  #held = Buffer.alloc(0);

  constructor(url, protocols) {
    const key = randomBytes(16).toString('base64');
    const headers = {
      Connection: 'Upgrade', Upgrade: 'websocket', Origin: node,
      'Sec-WebSocket-Version': 13, 'Sec-WebSocket-Key': key, 'Sec-WebSocket-Protocol': protocols.join(', '),
    };
    const asking = request(url.replace('ws', 'http'), { headers });
    asking.on('upgrade', ({ headers }, stream, head) => {
      const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
      if (headers['sec-websocket-accept'] !== accept) throw new Error('this is no WebSocket');
      this.#stream = stream;
      this.readyState = 1;
      stream.on('data', (data) => this.#take(data)).on('close', () => this.#end(1006, ''));
      this.#take(head);
    });
    asking.on('response', () => this.#end(1006, '')).on('error', () => this.#end(1006, '')).end();
  }

  send(text) {
    this.#write(1, Buffer.from(text));
  }

  close(code = 1000) {
    this.#write(8, Buffer.from([code >> 8, code & 255]));
  }

  #write(opcode, payload) {
    const mask = randomBytes(4);
    const length = payload.length < 126 ? [payload.length | 128] : [126 | 128, payload.length >> 8, payload.length & 255];
    this.#stream?.write(Buffer.concat([Buffer.from([opcode | 128, ...length]), mask, payload.map((byte, place) => byte ^ mask[place % 4])]));
  }

  #take(data) {
    this.#held = Buffer.concat([this.#held, data]);
    while (this.#held.length >= 2) {
      const [first, short] = this.#held;
      const at = short === 126 ? 4 : 2;
      if (this.#held.length < at) return;
      const end = at + (short === 126 ? this.#held.readUInt16BE(2) : short);
      if (this.#held.length < end) return;
      const payload = this.#held.subarray(at, end);
      this.#held = this.#held.subarray(end);
      this.#hear(first & 15, payload);
    }
  }

  #hear(opcode, payload) {
    if (opcode === 9) this.#write(10, payload);
    if (opcode === 1) this.onmessage({ data: payload.toString() });
    if (opcode === 8) this.#end(payload.readUInt16BE(0), payload.subarray(2).toString());
  }

  #end(code, reason) {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.#stream?.end();
    this.onclose({ code, reason });
  }
}

const seen = {};
try {
  const key = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign', 'verify']);
  const connection = connect(`${node}/ws`, { WebSocket: Socket, origin: node, key, ...(mode && { mode }) });
  connection.on('challenge', (challenge) => (seen.mode = challenge.mode));
  const response = await connection.fetch(`${node}/greeting`);
  Object.assign(seen, { status: response.status, body: await response.json(), state: connection.state });
  seen.headers = Object.keys(await connection.headersFor('GET', `${node}/greeting`));
  seen.bare = (await fetch(`${node}/greeting`, { headers: { connectionId: connection.id } })).status;
  seen.closed = await connection.close();
} catch ({ code, message }) {
  seen.fault = `${code} ${message}`;
}
console.log(JSON.stringify(seen));
process.exit(0);
