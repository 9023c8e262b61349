local token, wanted, successor, sealed, rotate = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local grace, idle, lifetime, now, slack, tokens_max =
  tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local family = find_family(token)
if not family then return { 'refused' } end
if now - family.created >= lifetime or now - family.last_used >= idle then return { 'refused' } end
if redis.call('HGET', user_key(family.name), 'disabled') ~= '0' then return { 'refused' } end
if wanted ~= '' and wanted ~= family.name then return { 'refused' } end

local remaining = family.created + lifetime - now
local held = redis.call('HMGET', token_key(token), 'replaced', 'sealed', 'confirmed', 'before')
local given = ''
if held[1] then
  -- A successor that nobody is known to have got may have been lost with the answer that carried it: that is no theft.
  local fresh = now - tonumber(held[1]) < grace
  if not fresh and held[3] then
    end_family(family, ARGV[9])
    return { 'reused' }
  end
  given = held[2]
elseif rotate == '1' then
  redis.call('HSET', token_key(token), 'replaced', ARGV[9], 'sealed', sealed, 'after', successor)
  redis.call('HSET', token_key(successor), 'family', family.id, 'before', token)
  redis.call('PEXPIRE', token_key(successor), whole(remaining + slack))
  forget_oldest(family.id, token, tokens_max)
  given = sealed
end
-- Whoever uses a successor has got it.
if held[4] and redis.call('EXISTS', token_key(held[4])) == 1 then
  redis.call('HSET', token_key(held[4]), 'confirmed', '1')
end
redis.call('HSET', family_key(family.id), 'last_used', ARGV[9])
redis.call('PEXPIRE', family_key(family.id), whole(math.min(idle, remaining) + slack))
return { 'session', given, held[3] or '', family.origin_jti, whole(family.created),
  redis.call('HGETALL', user_key(family.name)) }
