// The form `frame`: a window of the node's, inside the page, fetches the program and runs it there. The socket and the key
// stay in the page; what comes back is the MAC over the transcript that the page is going to sign.
//
// The messages are written down in the README beside the package; the other side is broker/web/frame/.

import type { Form } from './answer.js'
import type { Bytes } from './base64url.js'

const VERSION = 'frame/v1'

/** A message of the node's window. */
interface Told {
  countersign: string
  id: string
  mac?: unknown
  error?: unknown
}

/** For `forms` of the options, together with `pins`: `url` is of the node's frame. The page's policy must let it be framed
 * (`frame-src`). Not for workers, which have no windows. */
export function frame(url: string | URL, { timeoutMs = 8_000 } = {}): Form {
  const { href, origin } = new URL(url, location.href)
  let loaded: Promise<Window> | undefined
  let asked = 0
  return {
    name: 'frame',
    pinned: true,
    elsewhere: true,
    async run(handle, { clientNonce, file }, transcript) {
      const frame = await (loaded ??= load(href))
      const id = String((asked += 1))
      return new Promise((resolve, reject) => {
        const end = (error?: string): void => {
          removeEventListener('message', hear)
          clearTimeout(timer)
          if (error) reject(new Error(`the frame: ${error}`))
        }
        const hear = (event: MessageEvent<Told | null>): void => {
          const { data } = event
          if (event.source !== frame || event.origin !== origin || data?.countersign !== VERSION || data.id !== id) return
          const { mac, error } = data
          const isMac = mac instanceof Uint8Array && mac.length === 32
          end(isMac ? undefined : String(error))
          if (isMac) resolve(mac as Bytes)
        }
        const timer = setTimeout(() => end('no answer'), timeoutMs)
        addEventListener('message', hear)
        // To the node's origin alone: whatever else is in that window does not hear it.
        frame.postMessage({ countersign: VERSION, id, handle, transcript, clientNonce, file }, origin)
      })
    },
  }
}

/** Puts the window into the page, where nobody sees it. */
function load(href: string): Promise<Window> {
  const frame = document.createElement('iframe')
  Object.assign(frame, { hidden: true, title: 'Countersign', src: href })
  frame.setAttribute('sandbox', 'allow-scripts allow-same-origin')
  return new Promise((resolve, reject) => {
    frame.onload = () => (frame.contentWindow ? resolve(frame.contentWindow) : reject(new Error('the frame was taken away')))
    document.documentElement.append(frame)
  })
}
