// The browser client of a Countersign node. What it does by itself is told in the README beside the package.
import { Connection } from './connection.js';
/** Connects to a node: `wss://…`, `https://…` or a path of the page's own origin. Throws where that cannot be secure;
 * everything that fails later is an `error` event, and the end of `closed`. */
export function connect(url, options = {}) {
    return new Connection(url, options);
}
export { CountersignError } from './errors.js';
