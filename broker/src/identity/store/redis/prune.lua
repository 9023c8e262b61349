local revoked_before, tried_before, count_max = unpack(ARGV)
local old = redis.call('ZRANGEBYSCORE', root .. 'revoked_at', '-inf', '(' .. revoked_before, 'LIMIT', 0, count_max)
for _, sub in ipairs(old) do
  redis.call('ZREM', root .. 'revocations', sub)
  redis.call('ZREM', root .. 'revoked_at', sub)
  redis.call('HDEL', root .. 'revoked', sub)
end
redis.call('ZREMRANGEBYSCORE', root .. 'lockouts', '-inf', '(' .. tried_before)
return #old
