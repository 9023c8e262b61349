/** The one kind of error that this client throws. */
export class CountersignError extends Error {
    name = 'CountersignError';
    code;
    /** Of the socket, where its end is the reason. */
    closeCode;
    constructor(code, message, closeCode = null) {
        super(message);
        this.code = code;
        this.closeCode = closeCode;
    }
}
