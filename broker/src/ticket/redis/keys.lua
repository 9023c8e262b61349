-- The keys of tickets: makes the first, rotates, drops, and takes back what Redis lost.
-- KEYS: a hash from a key's name to `<minted with from, in ms>:<secret>`. ARGV: name and secret of a new key, should one be
-- due; period of rotation, how long a key is known before it mints, how long one is kept after the next began to mint, in ms;
-- then name and value of every key that the caller knows.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local period, ahead, kept = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
for i = 6, #ARGV, 2 do
  if not redis.call('HGET', KEYS[1], ARGV[i]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end

local function from(value)
  return tonumber(string.match(value, '^(%d+):') or '0')
end

local fields = redis.call('HGETALL', KEYS[1])
local newest, minting = nil, nil
for i = 1, #fields, 2 do
  local since = from(fields[i + 1])
  if not newest or since > newest then
    newest = since
  end
  if since <= now and (not minting or since > minting) then
    minting = since
  end
end

local answer = { string.format('%.0f', now) }
for i = 1, #fields, 2 do
  if minting and from(fields[i + 1]) < minting and minting + kept <= now then
    redis.call('HDEL', KEYS[1], fields[i])
  else
    answer[#answer + 1] = fields[i]
    answer[#answer + 1] = fields[i + 1]
  end
end

if not newest or newest + period <= now then
  -- The first one must mint at once: there is no other.
  local value = string.format('%.0f', newest and now + ahead or now) .. ':' .. ARGV[2]
  redis.call('HSET', KEYS[1], ARGV[1], value)
  answer[#answer + 1] = ARGV[1]
  answer[#answer + 1] = value
end
return answer
