local after, count_max = unpack(ARGV)
local names = redis.call('ZRANGEBYLEX', root .. 'users', after, '+', 'LIMIT', 0, count_max)
local found = {}
for i, name in ipairs(names) do found[i] = redis.call('HGETALL', user_key(name)) end
return found
