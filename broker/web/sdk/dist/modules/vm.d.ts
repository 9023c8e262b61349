/** What a program reads. Bytes are big-endian words; what is absent is an empty tape. */
export interface Tapes {
    /** 32 bytes, of the challenge. */
    serverNonce: Uint8Array;
    /** 32 bytes, of this client's `hello`. */
    clientNonce: Uint8Array | null;
    /** 16 bytes: the connection id. */
    connection: Uint8Array;
    /** 32 bytes: SHA-256 of the page's public key. */
    thumbprint: Uint8Array | null;
    /** Of the page; ASCII, at most 512 characters. */
    origin: string;
    /** 32 bytes: SHA-256 of the part of a file that the node asks for, if it asks. */
    file?: Uint8Array | null | undefined;
}
/** Why a program was not run; its message is one of a closed set of words. */
export declare class ProgramError extends Error {
    readonly name = "ProgramError";
}
/** Runs a program over its tapes; the eight lanes. Throws `ProgramError` before the first step, or not at all. */
export declare function evaluate(program: Uint8Array, tapes: Tapes): number[];
