-- Applies writes in order. A write whose condition fails does nothing.
-- KEYS: the fence of the writing node. ARGV: root, epoch of the writer's link, life of the fence in ms, then for each write
-- kind, id, generation, number of arguments, arguments.
-- A write that was sent on an older link may arrive after one on a newer: it must change nothing any more.
local epoch = tonumber(ARGV[2])
if tonumber(redis.call('GET', KEYS[1]) or '0') > epoch then
  return redis.error_reply('FENCED a newer link of this node has written')
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])

local kinds = {}

-- node, verified, connected at, last active, expires at, `=`subject, `=`origin, `=`issuer, mode, channels; empty: none.
function kinds.register(id, generation, first, last)
  drop(id)
  local key, node = root .. 'entry:' .. id, ARGV[first]
  local member = id .. node
  redis.call('HSET', key, 'n', node, 'g', generation, 'v', ARGV[first + 1], 'c', ARGV[first + 2], 'a', ARGV[first + 3],
    'm', ARGV[first + 8])
  if ARGV[first + 4] ~= '' then
    redis.call('HSET', key, 'x', ARGV[first + 4])
  end
  if ARGV[first + 5] ~= '' then
    local principal = string.sub(ARGV[first + 5], 2)
    redis.call('HSET', key, 'p', principal)
    redis.call('ZADD', root .. 'principal:' .. principal, 0, member)
  end
  if ARGV[first + 6] ~= '' then
    redis.call('HSET', key, 'o', string.sub(ARGV[first + 6], 2))
  end
  if ARGV[first + 7] ~= '' then
    redis.call('HSET', key, 'i', string.sub(ARGV[first + 7], 2))
  end
  for i = first + 9, last do
    redis.call('HSET', key, '+' .. ARGV[i], '')
    redis.call('ZADD', root .. 'channel:' .. ARGV[i], 0, member)
  end
  redis.call('SADD', root .. 'node:' .. node, id)
  redis.call('SADD', root .. 'nodes', node)
end

-- The node of the entry, if it is of this generation.
local function current(id, generation)
  local entry = redis.call('HMGET', root .. 'entry:' .. id, 'g', 'n')
  return entry[1] == generation and entry[2]
end

function kinds.verify(id, generation, first)
  if current(id, generation) then
    redis.call('HSET', root .. 'entry:' .. id, 'v', '1', 'm', ARGV[first])
  end
end

function kinds.lapse(id, generation, first)
  if current(id, generation) then
    redis.call('HSET', root .. 'entry:' .. id, 'v', '0', 'm', ARGV[first])
  end
end

function kinds.refresh(id, generation, first)
  if current(id, generation) then
    if ARGV[first] == '' then
      redis.call('HDEL', root .. 'entry:' .. id, 'x')
    else
      redis.call('HSET', root .. 'entry:' .. id, 'x', ARGV[first])
    end
  end
end

function kinds.subscribe(id, generation, first)
  local node = current(id, generation)
  if node then
    redis.call('HSET', root .. 'entry:' .. id, '+' .. ARGV[first], '')
    redis.call('ZADD', root .. 'channel:' .. ARGV[first], 0, id .. node)
  end
end

function kinds.unsubscribe(id, generation, first)
  local node = current(id, generation)
  if node then
    redis.call('HDEL', root .. 'entry:' .. id, '+' .. ARGV[first])
    redis.call('ZREM', root .. 'channel:' .. ARGV[first], id .. node)
  end
end

function kinds.remove(id, generation)
  if current(id, generation) then
    drop(id)
  end
end

-- Of any generation, if it is this node's: the node has no such connection.
function kinds.disown(id, _, first)
  drop(id, ARGV[first])
end

local i = 4
while ARGV[i] do
  local count = tonumber(ARGV[i + 3])
  kinds[ARGV[i]](ARGV[i + 1], ARGV[i + 2], i + 4, i + 3 + count)
  i = i + 4 + count
end
return redis.status_reply('OK')
