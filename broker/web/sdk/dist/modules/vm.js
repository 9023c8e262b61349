// The interpreter of challenge programs: straight-line code on 32 registers of 32 bits. It can compute integers and
// nothing else: no jumps, no memory, no calls. Everything is checked before the first step is run.
//
// The byte form is the node's (broker/src/challenge/bytecode.rs); golden vectors hold both to it.
/** Why a program was not run; its message is one of a closed set of words. */
export class ProgramError extends Error {
    name = 'ProgramError';
}
const VERSION = 1;
const OPERATIONS = 21;
const REGISTERS = 32;
const HEADER = 1 + OPERATIONS + REGISTERS;
const OPERATIONS_MAX = 1024;
const FUEL_MAX = 4096;
const ORIGIN_MAX = 512;
const LANES = 8;
// Places of the operations in the header's table of opcodes: a frozen order.
const CONST = 0;
const CLZ = 3;
const ADD = 4;
const EQ = 12;
const SHL = 13;
const XSH = 17;
const MUL_ODD = 18;
const SELECT = 19;
const FOLD = 20;
const refuse = (why) => {
    throw new ProgramError(why);
};
/** Runs a program over its tapes; the eight lanes. Throws `ProgramError` before the first step, or not at all. */
export function evaluate(program, tapes) {
    const words = readTapes(tapes);
    const { steps, lanes } = decode(program, words.length);
    const cost = (fuel, { op, a }) => fuel + 1 + (op === FOLD ? words[a].length : 0);
    if (steps.reduce(cost, 0) > FUEL_MAX)
        refuse('fuel');
    const registers = new Int32Array(REGISTERS);
    for (const step of steps)
        registers[step.dst] = compute(step, registers, words);
    return lanes.map((place) => registers[place]);
}
function readTapes({ serverNonce, clientNonce, connection, thumbprint, origin, file }) {
    if (origin.length > ORIGIN_MAX)
        refuse('origin');
    const units = Int32Array.from(origin, (unit) => (unit > '\x7f' ? refuse('origin') : unit.charCodeAt(0)));
    const tape = (bytes, length) => {
        if (bytes === null)
            return new Int32Array(0);
        if (bytes.length !== length)
            refuse('tape');
        const view = new DataView(bytes.buffer, bytes.byteOffset, length);
        return Int32Array.from({ length: length / 4 }, (_, word) => view.getInt32(4 * word, false));
    };
    const words = [tape(serverNonce, 32), tape(clientNonce, 32), tape(connection, 16), tape(thumbprint, 32), units];
    return file ? [...words, tape(file, 32)] : words;
}
/** Checks every byte of a program, and takes its disguise off the opcodes. */
function decode(program, tapes) {
    if (program.length < 1)
        refuse('short');
    if (program[0] !== VERSION)
        refuse('version');
    if (program.length < HEADER)
        refuse('short');
    const count = (program.length - HEADER) / 8;
    if (count > OPERATIONS_MAX)
        refuse('long');
    const operations = new Map();
    program.subarray(1, 1 + OPERATIONS).forEach((code, place) => operations.set(code, place));
    if (operations.size !== OPERATIONS)
        refuse('opcodes');
    const registers = [...program.subarray(1 + OPERATIONS, HEADER)];
    if (new Set(registers).size !== REGISTERS || registers.some(isNoRegister))
        refuse('registers');
    if (!Number.isInteger(count))
        refuse('ragged');
    const view = new DataView(program.buffer, program.byteOffset, program.length);
    const steps = [];
    for (let at = HEADER; at < program.length; at += 8) {
        const op = operations.get(view.getUint8(at)) ?? refuse('opcode');
        steps.push(check(tapes, { op, dst: view.getUint8(at + 1), a: view.getUint8(at + 2), b: view.getUint8(at + 3), imm: view.getInt32(at + 4, false) }));
    }
    // The interpreter works under the names of the wire; only where the lanes are has to be known.
    return { steps, lanes: registers.slice(0, LANES) };
}
const isNoRegister = (number) => number < 0 || number >= REGISTERS;
/** One step, if it is legal: what has no meaning is zero, and what has one is within its range. */
function check(tapes, step) {
    const { op, dst, a, b, imm } = step;
    const isUnary = op > CONST && op < ADD;
    const isShift = op >= SHL && op <= XSH;
    const isBinary = op >= ADD && op <= EQ;
    const shift = isShift ? imm : op === FOLD ? b : 1;
    const unused = op === CONST ? a | b : isUnary ? b | imm : isBinary ? imm : isShift || op === MUL_ODD ? b : 0;
    if (unused !== 0)
        refuse('unused');
    if (isNoRegister(dst))
        refuse('register');
    if (op === FOLD ? a >= tapes : isNoRegister(a))
        refuse(op === FOLD ? 'tape' : 'register');
    if ((isBinary || op === SELECT) && isNoRegister(b))
        refuse('register');
    if (op === SELECT && isNoRegister(imm))
        refuse('register');
    if (shift < 1 || shift > 31)
        refuse('shift');
    if ((op === MUL_ODD || op === FOLD) && (imm & 1) === 0)
        refuse('multiplier');
    return step;
}
function compute({ op, dst, a, b, imm }, r, tapes) {
    const x = r[a];
    const y = r[b];
    switch (op) {
        case CONST: return imm;
        case 1: return (-x) | 0;
        case 2: return ~x;
        case CLZ: return Math.clz32(x);
        case ADD: return (x + y) | 0;
        case 5: return (x - y) | 0;
        case 6: return Math.imul(x, y);
        case 7: return x ^ y;
        case 8: return x & y;
        case 9: return x | y;
        case 10: return x < y ? 1 : 0;
        case 11: return (x >>> 0) < (y >>> 0) ? 1 : 0;
        case EQ: return x === y ? 1 : 0;
        case SHL: return x << imm;
        case 14: return x >> imm;
        case 15: return (x >>> imm) | 0;
        case 16: return (x << imm) | (x >>> (32 - imm));
        case XSH: return x ^ (x >>> imm);
        case MUL_ODD: return Math.imul(x, imm);
        case SELECT: return r[imm] !== 0 ? x : y;
        default: return fold(r[dst], tapes[a], b, imm);
    }
}
function fold(start, tape, by, odd) {
    const step = (x, word) => Math.imul(((x << by) | (x >>> (32 - by))) ^ word, odd);
    return tape.reduce(step, start) ^ tape.length;
}
