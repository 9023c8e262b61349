local sub, generation, family, token, origin_jti, now, family_ms, token_ms = unpack(ARGV)
local name = redis.call('GET', root .. 'sub:' .. sub)
if not name then return 0 end
local user = redis.call('HMGET', user_key(name), 'generation', 'disabled', 'era')
if user[1] ~= generation or user[2] ~= '0' then return 0 end
redis.call('HSET', family_key(family), 'sub', sub, 'origin_jti', origin_jti, 'created', now, 'last_used', now,
  'era', user[3], 'revoked', '0', 'oldest', token, 'tokens', '1')
redis.call('PEXPIRE', family_key(family), family_ms)
redis.call('HSET', token_key(token), 'family', family)
redis.call('PEXPIRE', token_key(token), token_ms)
return 1
