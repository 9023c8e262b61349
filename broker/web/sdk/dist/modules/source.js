// The form `source`, for clients that cannot run bytecode: a printed function that the page evaluates. It is no part of the
// client itself. What is evaluated can do whatever the page can, so nothing is that a pinned key has not signed.
let policy;
/** For `forms` of the options, together with `pins`. The page's policy must allow `'unsafe-eval'` and, where it asks for
 * trusted types, a policy of the name `countersign`. */
export function source() {
    return {
        name: 'source',
        pinned: true,
        async run(program) {
            const { lanes } = evaluate(`(${program})`)();
            if (!Array.isArray(lanes) || lanes.length !== 8 || lanes.some((lane) => lane !== (lane | 0)))
                throw new Error('the program gave no lanes');
            return lanes;
        },
    };
}
/** In the global scope: it sees nothing of this module. */
function evaluate(text) {
    const { trustedTypes } = globalThis;
    if (trustedTypes)
        policy ??= trustedTypes.createPolicy('countersign', { createScript: (script) => script });
    return (0, eval)(policy ? policy.createScript(text) : text);
}
