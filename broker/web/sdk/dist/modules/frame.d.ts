import type { Form } from './answer.js';
/** For `forms` of the options, together with `pins`: `url` is of the node's frame. The page's policy must let it be framed
 * (`frame-src`). Not for workers, which have no windows. */
export declare function frame(url: string | URL, { timeoutMs }?: {
    timeoutMs?: number | undefined;
}): Form;
