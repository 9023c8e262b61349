local name = ARGV[1]
local threshold, base, longest, now, names_max, slack =
  tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local key = root .. 'lockout:' .. name
local held = redis.call('HMGET', key, 'failures', 'locked_until')
local failures, locked_until = tonumber(held[1] or 0), tonumber(held[2] or 0)
if now < locked_until then return whole(locked_until) end
if now >= locked_until + longest then failures = 0 end
failures = failures + 1
local delay = 0
if failures >= threshold then delay = math.min(base * 2 ^ math.min(failures - threshold, 40), longest) end
redis.call('HSET', key, 'failures', whole(failures), 'locked_until', whole(now + delay))
redis.call('PEXPIRE', key, whole(delay + longest + slack))
redis.call('ZADD', root .. 'lockouts', ARGV[5], name)
if redis.call('ZCARD', root .. 'lockouts') > names_max then
  local oldest = redis.call('ZPOPMIN', root .. 'lockouts')
  redis.call('DEL', root .. 'lockout:' .. oldest[1])
end
return ''
