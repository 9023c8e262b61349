// The script of the frame. It hears its parent and nobody else, and answers to the origin that asked.

import { attest } from './attest.js'
import type { Question } from './attest.js'

interface Asked extends Question {
  countersign: 'frame/v1'
  id: string
}

addEventListener('message', (event: MessageEvent<Asked>) => {
  const { data, origin, source } = event
  if (window.parent === window || source !== window.parent || data?.countersign !== 'frame/v1') return
  const reply = (members: object): void => window.parent.postMessage({ countersign: 'frame/v1', id: data.id, ...members }, origin)
  const ground = { origin, host: location.host, ancestors: location.ancestorOrigins && [...location.ancestorOrigins], program }
  attest(data, ground).then(
    (mac) => reply({ mac }),
    (error: Error) => reply({ error: error.message }),
  )
})

/** Fetches a program from the node that this document is of. */
async function program(handle: string): Promise<string> {
  if (!/^[\w-]{32}$/.test(handle)) throw new Error('handle')
  const response = await fetch(`/challenge/program/${handle}`, { cache: 'no-store', credentials: 'omit', redirect: 'error' })
  if (!response.ok) throw new Error(`program: ${response.status}`)
  return response.text()
}
