import type { Bytes } from './base64url.js';
import type { PageKey } from './key.js';
import type { Tapes } from './vm.js';
import type { Answer, Challenge, Mode } from './wire.js';
/** A form of programs that a client can run. */
export interface Form {
    /** As `hello` offers it. */
    readonly name: string;
    /** Only programs that a pinned key has signed are run. */
    readonly pinned?: boolean;
    /** The program is somewhere else: `run` is given a handle of it, and its hash is the node's word. Never for what is run here. */
    readonly elsewhere?: boolean;
    /** Runs a program: its eight lanes or, where another window runs it, the 32 bytes of the MAC over `transcript`. */
    run(program: string, tapes: Tapes, transcript: Bytes): Promise<number[] | Bytes>;
}
/** What a connection knows when it is challenged. */
export interface Situation {
    key: PageKey;
    /** The frame that said hello, as it was sent. */
    hello: string;
    clientNonce: Bytes;
    connectionId: string;
    /** Of the node, as it was dialed. */
    host: string;
    /** Of the page, or empty. */
    origin: string;
    /** The least that calls must show. */
    mode: Mode;
    /** Of nodes; one of them must have signed the program. */
    pins?: string[];
    forms: Form[];
    /** What the paths of files begin with that the node may ask for. */
    files?: string;
    fetch: typeof fetch;
}
/** Bytecode, in the interpreter here. */
export declare const VM: Form;
/** Runs the program. Whatever cannot be run, or not be verified, throws: it is a failure, never a pass. */
export declare function answer(challenge: Challenge, situation: Situation): Promise<Answer>;
