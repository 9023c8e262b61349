// The frames of `countersign.v1` that a node sends. Members that this client does not know are a newer node's.
/** From the weakest. */
export const MODES = ['bearer', 'ticket', 'proof'];
/** The members that a known event must have: texts, and numbers after the sign; what ends with `?` may be null. */
const SHAPES = {
    welcome: 'connectionId challenge subject? #expiresAt?',
    challenge: 'challenge form nonce program mode #epoch #answerMs',
    ticket: 'ticket nonce #expiresInMs',
    verified: 'connectionId',
    publication: 'channel',
};
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
/** Has the frame this member of a shape? */
const has = (frame, member) => {
    const value = frame[member.replace(/\W/g, '')];
    return typeof value === (member.startsWith('#') ? 'number' : 'string') || (value === null && member.endsWith('?'));
};
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
        const members = Object.hasOwn(SHAPES, frame.event) ? SHAPES[frame.event].split(' ') : [];
        return members.every((member) => has(frame, member)) ? frame : null;
    }
    const { id, ok, error } = frame;
    const told = isObject(ok) || (isObject(error) && typeof error.code === 'string' && typeof error.message === 'string');
    return typeof id === 'number' && told ? frame : null;
}
export const isReply = (frame) => !('event' in frame);
