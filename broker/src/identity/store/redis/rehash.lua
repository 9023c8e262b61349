local name, old, new = unpack(ARGV)
if redis.call('HGET', user_key(name), 'password') ~= old then return 0 end
redis.call('HSET', user_key(name), 'password', new)
return 1
