if redis.call('EXISTS', token_key(ARGV[1])) == 1 then redis.call('HSET', token_key(ARGV[1]), 'confirmed', '1') end
return 1
