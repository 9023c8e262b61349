-- Takes a node's entries out, a bounded number at a time. KEYS: the node's connections. ARGV: root, node, limit, `dead`: only if
-- its lease has run out, checked here, so that a node that comes back keeps what it writes.
-- Answer: how many were taken out, and how many are left; -1 if the node is alive.
local node = ARGV[2]
if ARGV[4] == 'dead' then
  if is_alive(node) then
    return { 0, -1 }
  end
else
  redis.call('DEL', root .. 'lease:' .. node)
end
local taken = 0
for _, id in ipairs(redis.call('SRANDMEMBER', KEYS[1], ARGV[3])) do
  taken = taken + drop(id, node)
  redis.call('SREM', KEYS[1], id)
end
local left = redis.call('SCARD', KEYS[1])
if left == 0 then
  redis.call('SREM', root .. 'nodes', node)
end
return { taken, left }
