// A program of Node.js that uses the SDK with the socket that Node.js has built in. Given the URL of a socket that is refused, it
// prints what it saw as one line of JSON.
import { spawnSync } from 'node:child_process';
import { connect } from '../../broker/web/sdk/dist/countersign.js';

// Node.js 20 has it behind a flag, 18 not at all.
const FLAG = '--experimental-websocket';
if (!globalThis.WebSocket) {
  if (!process.allowedNodeEnvironmentFlags.has(FLAG)) console.log('{"missing":true}');
  else spawnSync(process.execPath, [FLAG, ...process.argv.slice(1)], { stdio: 'inherit' });
  process.exit();
}

// Silence would end it too, but not within this test: what it shows is that the socket's error does.
const open = (options) => connect(process.argv[2], { allowInsecure: true, backoff: { first: 1 }, requestTimeoutMs: 3_600_000, ...options });
const seen = { lost: [] };
process.on('exit', () => console.log(JSON.stringify(seen)));
setTimeout(() => process.exit(), 60_000).unref();

const again = open({});
await new Promise((resolve) => {
  again.on('disconnected', ({ code, again }) => {
    if (seen.lost.push([code, again]) === 2) resolve();
  });
});
await again.ready(1).catch(({ code }) => (seen.ready = code));
await again.close();

const { code, closeCode } = await open({ reconnect: false }).closed;
// After this nothing is left that would keep the process.
Object.assign(seen, { end: [code, closeCode], closed: await open({}).close() });
