// The frames of `countersign.v1` that a node sends. Members that this client does not know are a newer node's.
/** From the weakest. */
export const MODES = ['bearer', 'ticket', 'proof'];
/** The members that a known event must have. */
const SHAPES = {
    welcome: { connectionId: 'string', challenge: 'string', subject: 'string?', expiresAt: 'number?' },
    challenge: { challenge: 'string', epoch: 'number', form: 'string', nonce: 'string', program: 'string', answerMs: 'number', mode: 'string' },
    ticket: { ticket: 'string', nonce: 'string', expiresInMs: 'number' },
    verified: { connectionId: 'string' },
    publication: { channel: 'string' },
};
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
const isOf = (kind, value) => kind.endsWith('?') ? value === null || typeof value === kind.slice(0, -1) : typeof value === kind;
/** One frame, if it is one. */
export function parse(text) {
    let frame;
    try {
        frame = typeof text === 'string' ? JSON.parse(text) : null;
    }
    catch {
        return null;
    }
    if (!isObject(frame))
        return null;
    if (typeof frame.event === 'string') {
        const shape = Object.hasOwn(SHAPES, frame.event) ? SHAPES[frame.event] : {};
        return Object.entries(shape).every(([name, kind]) => isOf(kind, frame[name])) ? frame : null;
    }
    const { id, ok, error } = frame;
    const told = isObject(ok) || (isObject(error) && typeof error.code === 'string' && typeof error.message === 'string');
    return typeof id === 'number' && told ? frame : null;
}
export const isReply = (frame) => !('event' in frame);
