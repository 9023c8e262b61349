-- Renews or takes a lease. KEYS: the lease. ARGV: root, node, life in ms.
-- Answer: 1 if it was still there, and how many connections the node has here.
local held = redis.call('EXISTS', KEYS[1])
redis.call('SET', KEYS[1], '1', 'PX', ARGV[3])
redis.call('SADD', root .. 'nodes', ARGV[2])
return { held, redis.call('SCARD', root .. 'node:' .. ARGV[2]) }
