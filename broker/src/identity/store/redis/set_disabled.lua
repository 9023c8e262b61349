local name, disabled, now = unpack(ARGV)
if redis.call('EXISTS', user_key(name)) == 0 then return 0 end
redis.call('HSET', user_key(name), 'disabled', disabled, 'updated', now)
if disabled == '1' then end_all(name, now) end
return 1
