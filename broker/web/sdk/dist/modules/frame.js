// The form `frame`: a window of the node's, inside the page, fetches the program and runs it there. The socket and the key
// stay in the page; what comes back is the MAC over the transcript that the page is going to sign.
//
// The messages are written down in the README beside the package; the other side is broker/web/frame/.
const VERSION = 'frame/v1';
/** Windows that are made for one program, where the page takes each away again. */
const WINDOWS_MAX = 3;
/** The frame is not in the page any more. */
class TakenAway extends Error {
}
/** The frame is there, and answered that it does not do this. */
class Refused extends Error {
}
/** For `forms` of the options, together with `pins`: `url` is of the node's frame. The page's policy must let it be framed
 * (`frame-src`). Not for workers, which have no windows. */
export function frame(url, { timeoutMs = 8_000 } = {}) {
    const { href, origin } = new URL(url, location.href);
    let present;
    let asked = 0;
    const ask = ({ element, window }, members) => {
        const id = String((asked += 1));
        let hear;
        const answered = inTime(() => element.contentWindow === window, timeoutMs, ({ resolve, reject }) => {
            hear = ({ source, origin: from, data }) => {
                if (source !== window || from !== origin || data?.countersign !== VERSION || data.id !== id)
                    return;
                const { mac, error } = data;
                if (mac instanceof Uint8Array && mac.length === 32)
                    resolve(mac);
                else
                    reject(new Refused(`the frame: ${String(error)}`));
            };
            addEventListener('message', hear);
            // To the node's origin alone: whatever else is in that window does not hear it.
            window.postMessage({ countersign: VERSION, id, ...members }, origin);
        });
        return answered.finally(() => removeEventListener('message', hear));
    };
    return {
        name: 'frame',
        pinned: true,
        elsewhere: true,
        async run(handle, { clientNonce, file }, transcript) {
            for (let windows = 1;; windows += 1) {
                const loading = (present ??= load(href, timeoutMs));
                try {
                    const frame = await loading;
                    if (frame.element.contentWindow !== frame.window)
                        throw new TakenAway('the frame was taken away');
                    return await ask(frame, { handle, transcript, clientNonce, file });
                }
                catch (error) {
                    if (error instanceof Refused)
                        throw error;
                    // That window is of no use: the next program gets another. Who else asked may have made it already.
                    if (present === loading)
                        present = undefined;
                    loading.then(({ element }) => element.remove(), () => { });
                    if (!(error instanceof TakenAway) || windows === WINDOWS_MAX)
                        throw error;
                }
            }
        },
    };
}
/** Puts the window into the page, where nobody sees it. */
async function load(href, timeoutMs) {
    const element = document.createElement('iframe');
    Object.assign(element, { hidden: true, title: 'Countersign', src: href });
    element.setAttribute('sandbox', 'allow-scripts allow-same-origin');
    document.documentElement.append(element);
    try {
        const isThere = () => element.contentWindow !== null;
        const window = await inTime(isThere, timeoutMs, ({ resolve }) => {
            element.onload = () => element.contentWindow && resolve(element.contentWindow);
        });
        return { element, window };
    }
    catch (error) {
        element.remove();
        throw error;
    }
}
/** Begins something that a frame has to end: in time, and while it is there. */
async function inTime(isThere, timeoutMs, begin) {
    let timer;
    let observer;
    try {
        return await new Promise((resolve, reject) => {
            timer = setTimeout(() => reject(new Error('the frame: no answer')), timeoutMs);
            // Not by a timer, which tabs in the background delay.
            observer = new MutationObserver(() => isThere() || reject(new TakenAway('the frame was taken away')));
            observer.observe(document, { childList: true, subtree: true });
            begin({ resolve, reject });
        });
    }
    finally {
        clearTimeout(timer);
        observer?.disconnect();
    }
}
