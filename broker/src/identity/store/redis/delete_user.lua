local name, now = unpack(ARGV)
local found = redis.call('HMGET', user_key(name), 'sub', 'generation')
if not found[1] then return 0 end
-- Families end with their subject: nothing leads to a user from them any more.
redis.call('DEL', user_key(name), root .. 'sub:' .. found[1])
redis.call('ZREM', root .. 'users', name)
announce(found[1], tonumber(found[2]) + 1, now)
return 1
