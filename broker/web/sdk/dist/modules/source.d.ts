import type { Form } from './answer.js';
/** For `forms` of the options, together with `pins`. The page's policy must allow `'unsafe-eval'` and, where it asks for
 * trusted types, a policy of the name `countersign`. */
export declare function source(): Form;
