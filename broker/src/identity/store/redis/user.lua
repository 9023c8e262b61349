-- What all scripts of the pool share. KEYS[1] begins every key; all of them share its hash tag.
--
-- user:<name>     hash; `generation` counts revocations of tokens, `era` those of refresh tokens too
-- users           sorted set of score 0: every name, in order
-- sub:<sub>       the name of a subject
-- family:<id>     hash, ends by itself; good while its `era` is the user's
-- token:<hash>    hash, ends by itself: its family, what replaced it, and the tokens before and after it
-- lockout:<name>  hash, ends by itself: failures, and until when the name is locked
-- lockouts        sorted set of names by their last attempt
-- revision        counts revocations
-- revocations     sorted set of subjects by the number of their last revocation
-- revoked         hash of subject to "generation time" of it
-- revoked_at      sorted set of subjects by the time of it
local root = KEYS[1]

-- Lua writes numbers of 15 digits and more, and some shorter ones, with an exponent.
local function whole(number)
  return string.format('%.0f', number)
end

local function user_key(name)
  return root .. 'user:' .. name
end

local function family_key(id)
  return root .. 'family:' .. id
end

local function token_key(hash)
  return root .. 'token:' .. hash
end

local function announce(sub, generation, now)
  local id = redis.call('INCR', root .. 'revision')
  redis.call('HSET', root .. 'revoked', sub, whole(generation) .. ' ' .. now)
  redis.call('ZADD', root .. 'revocations', whole(id), sub)
  redis.call('ZADD', root .. 'revoked_at', now, sub)
end

-- Revokes all tokens of a user who stays.
local function revoke(name, now)
  local generation = redis.call('HINCRBY', user_key(name), 'generation', 1)
  redis.call('HSET', user_key(name), 'updated', now)
  announce(redis.call('HGET', user_key(name), 'sub'), generation, now)
end

-- Ends all refresh tokens of a user too.
local function end_all(name, now)
  redis.call('HINCRBY', user_key(name), 'era', 1)
  revoke(name, now)
end

-- The family of a token, and its user's name, if it has not been ended. Its age is for the caller to judge.
local function find_family(hash)
  local id = redis.call('HGET', token_key(hash), 'family')
  if not id then return nil end
  local found = redis.call('HMGET', family_key(id), 'sub', 'origin_jti', 'created', 'last_used', 'era', 'revoked')
  if not found[1] or found[6] == '1' then return nil end
  local name = redis.call('GET', root .. 'sub:' .. found[1])
  if not name or redis.call('HGET', user_key(name), 'era') ~= found[5] then return nil end
  return { id = id, name = name, origin_jti = found[2], created = tonumber(found[3]), last_used = tonumber(found[4]) }
end

-- Counts the token that has just come to a family, and forgets the oldest if there are too many. Each token names the one after
-- it, so that this needs no list. A family that does not know its oldest (it is of an earlier version, or Redis has lost it)
-- counts from here.
local function forget_oldest(id, replaced, tokens_max)
  local key = family_key(id)
  local oldest = redis.call('HGET', key, 'oldest')
  if not oldest or redis.call('EXISTS', token_key(oldest)) == 0 then
    oldest = replaced
    redis.call('HSET', key, 'oldest', replaced, 'tokens', '1')
  end
  if redis.call('HINCRBY', key, 'tokens', 1) > tokens_max then
    redis.call('HSET', key, 'oldest', redis.call('HGET', token_key(oldest), 'after'))
    redis.call('DEL', token_key(oldest))
    redis.call('HINCRBY', key, 'tokens', -1)
  end
end

-- The family stays, marked: a second copy of an old token must not end the user's next sessions again.
local function end_family(family, now)
  redis.call('HSET', family_key(family.id), 'revoked', '1')
  revoke(family.name, now)
end
