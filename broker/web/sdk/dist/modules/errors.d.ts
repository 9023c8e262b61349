/** What went wrong here. */
export type ClientErrorCode = 
/** The page, or the URL that it connects to, is not secure. */
'insecure_context'
/** The node answers, but not to pages of this origin. */
 | 'origin_refused'
/** Closed by a code after which one does not reconnect; see `closeCode`. */
 | 'closed' | 'challenge_failed'
/** The node asked for what this client cannot do, or offered less than this client asks for. */
 | 'challenge_unsupported'
/** There are pinned keys, and none of them signed the program. */
 | 'program_unsigned'
/** The node gives no credential of the mode that was asked for. */
 | 'mode_too_low'
/** The node did not take the token. */
 | 'token_invalid'
/** The token function, or the platform's socket, threw. */
 | 'token_failed'
/** The node said what this client does not understand. */
 | 'protocol' | 'timeout' | 'overloaded' | 'slow_consumer'
/** A call that would have shown a credential to somebody else. */
 | 'foreign_origin'
/** The connection was closed by `close`. */
 | 'aborted';
/** What the node replied to a request. */
export type NodeErrorCode = 'bad_request' | 'unknown_action' | 'denied' | 'limit' | 'already_subscribed' | 'not_subscribed' | 'not_available' | 'token_invalid' | 'overloaded' | 'internal';
/** For programs. A newer node may have further ones. */
export type ErrorCode = ClientErrorCode | NodeErrorCode | (string & {});
/** The one kind of error that this client throws. */
export declare class CountersignError extends Error {
    readonly name = "CountersignError";
    readonly code: ErrorCode;
    /** Of the socket, where its end is the reason. */
    readonly closeCode: number | null;
    constructor(code: ErrorCode, message: string, closeCode?: number | null);
}
