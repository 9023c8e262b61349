// After which close codes one comes back, and when; a test holds this to the node's table (broker/src/close.rs).
/** Idle, restarts, at capacity, internal error; then those that no node sends, but a browser or a proxy. */
const RECONNECT = [1001, 1012, 1013, 4500, 1005, 1006, 1011, 1014, 1015];
/** The longest hint that is honoured, in milliseconds. */
const HINT_MAX = 600_000;
/** May a client reconnect unchanged after this code? */
export function mayReconnect(code) {
    return RECONNECT.includes(code);
}
/** The pause that a draining node asks for in its reason, in milliseconds; null where there is none. */
export function retryHint(reason) {
    const found = /reconnect in (\d{1,9}) ms$/.exec(reason);
    return found && Math.min(Number(found[1]), HINT_MAX);
}
