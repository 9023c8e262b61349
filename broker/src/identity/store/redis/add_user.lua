local name, username, sub, email, password, temporary, until_ms, now = unpack(ARGV)
if redis.call('EXISTS', user_key(name)) == 1 then return 0 end
redis.call('HSET', user_key(name), 'name', name, 'username', username, 'sub', sub, 'password', password,
  'temporary', temporary, 'until', until_ms, 'disabled', '0', 'generation', '0', 'era', '0', 'created', now, 'updated', now)
if email ~= '' then redis.call('HSET', user_key(name), 'email', email) end
redis.call('SET', root .. 'sub:' .. sub, name)
redis.call('ZADD', root .. 'users', 0, name)
return 1
