// Each line of input is one array of cases; each line of output their results.
require('node:readline').createInterface({ input: process.stdin, crlfDelay: Infinity }).on('line', (line) => {
  process.stdout.write(runCases(line) + '\n')
})
