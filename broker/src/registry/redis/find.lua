-- The fields of an entry whose node is alive; else nothing. KEYS: the entry. ARGV: root.
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  if fields[i] == 'n' then
    return is_alive(fields[i + 1]) and fields or {}
  end
end
return {}
