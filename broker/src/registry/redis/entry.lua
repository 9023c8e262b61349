-- What every script of the registry shares. All keys begin with `root`, which holds the hash tag of the cluster.
local root = ARGV[1]

-- Characters of a connection id; the rest of an index member is its node.
local ID_LEN = 22

-- Takes an entry out of everything that lists it. With `owner`, only if it is that node's.
local function drop(id, owner)
  local key = root .. 'entry:' .. id
  local fields = redis.call('HGETALL', key)
  local node, principal, channels = nil, nil, {}
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if name == 'n' then
      node = value
    elseif name == 'p' then
      principal = value
    elseif string.sub(name, 1, 1) == '+' then
      channels[#channels + 1] = string.sub(name, 2)
    end
  end
  if not node or (owner and node ~= owner) then
    return 0
  end
  local member = id .. node
  if principal then
    redis.call('ZREM', root .. 'principal:' .. principal, member)
  end
  for _, channel in ipairs(channels) do
    redis.call('ZREM', root .. 'channel:' .. channel, member)
  end
  redis.call('SREM', root .. 'node:' .. node, id)
  redis.call('DEL', key)
  return 1
end

local function is_alive(node)
  return redis.call('EXISTS', root .. 'lease:' .. node) == 1
end
