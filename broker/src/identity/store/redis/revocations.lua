local after, count_max = unpack(ARGV)
local found = redis.call('ZRANGEBYSCORE', root .. 'revocations', '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, count_max)
local list = {}
for i = 1, #found, 2 do
  list[#list + 1] = { found[i + 1], found[i], redis.call('HGET', root .. 'revoked', found[i]) }
end
return list
