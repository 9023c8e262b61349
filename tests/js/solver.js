// Evaluates challenge programs as a page would: one JSON request a line, one JSON answer a line.
// A request names the program and the origin of the page that it pretends to be.
const { createInterface } = require('node:readline');
const vm = require('node:vm');

const evaluate = ({ program, origin }) => {
  const url = new URL(origin);
  const location = { origin: url.origin, protocol: url.protocol, host: url.host, hostname: url.hostname, port: url.port, href: `${url.origin}/` };
  const page = { location, document: { domain: url.hostname, location } };
  page.window = page.self = page.globalThis = page;
  // Passed as text: an object of the other realm would not survive a strict comparison here.
  return vm.runInNewContext(`JSON.stringify(eval('(' + ${JSON.stringify(program)} + ')')(() => ({ keys: ['a', 'b'] })))`, page, { timeout: 5000 });
};

createInterface({ input: process.stdin }).on('line', (line) => {
  let answer;
  try {
    answer = { ok: JSON.parse(evaluate(JSON.parse(line))) };
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
});
