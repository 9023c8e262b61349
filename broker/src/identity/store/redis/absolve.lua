redis.call('DEL', root .. 'lockout:' .. ARGV[1])
redis.call('ZREM', root .. 'lockouts', ARGV[1])
return 1
