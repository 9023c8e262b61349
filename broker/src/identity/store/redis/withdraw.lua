local name, now = unpack(ARGV)
local key = root .. 'lockout:' .. name
local held = redis.call('HMGET', key, 'failures', 'locked_until')
if not held[1] then return 0 end
redis.call('HSET', key, 'failures', whole(math.max(tonumber(held[1]) - 1, 0)),
  'locked_until', whole(math.min(tonumber(held[2]), tonumber(now))))
return 1
