local name, password, temporary, until_ms, replaces, now = unpack(ARGV)
local held = redis.call('HGET', user_key(name), 'password')
if not held or (replaces ~= '' and replaces ~= held) then return {} end
redis.call('HSET', user_key(name), 'password', password, 'temporary', temporary, 'until', until_ms)
end_all(name, now)
return redis.call('HGETALL', user_key(name))
