/** A reply to a request. */
export interface Reply {
    id: number;
    ok?: Record<string, unknown>;
    error?: {
        code: string;
        message: string;
    };
}
export interface Welcome {
    event: 'welcome';
    connectionId: string;
    challenge: 'required' | 'off';
    subject: string | null;
    expiresAt: number | null;
}
export interface Challenge {
    event: 'challenge';
    challenge: string;
    epoch: number;
    form: string;
    nonce: string;
    program: string;
    answerMs: number;
}
export interface Publication {
    event: 'publication';
    channel: string;
    data?: unknown;
    binary?: string;
}
/** Anything else that is pushed. */
export interface Push {
    event: string;
    [member: string]: unknown;
}
/** One frame, if it is one. */
export declare function parse(text: unknown): Reply | Push | null;
export declare const isReply: (frame: Reply | Push) => frame is Reply;
