// Hands over the results of the last cases, and gets the next ones: requests carry far more than a driver's commands do.
const exchange = async () => {
  for (let results = ''; ;) {
    const answer = await fetch('/exchange', { method: 'POST', body: results })
    results = runCases(await answer.text())
  }
}
// The harness is gone when it has asked for all it wanted.
exchange().catch(() => {})
