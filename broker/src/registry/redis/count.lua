-- How many connections the living nodes hold. KEYS: the nodes. ARGV: root.
local sum = 0
for _, node in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if is_alive(node) then
    sum = sum + redis.call('SCARD', root .. 'node:' .. node)
  end
end
return sum
