-- Connections of an index whose nodes are alive, in the order of their ids, at most `limit`.
-- KEYS: the index. ARGV: root, where to begin, limit, members looked at most.
-- Answer: the id after which to go on (empty: the end), then the ids.
local from, limit, budget = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local alive, page, last = {}, { '' }, nil
while true do
  local count = math.min(limit + 1, budget)
  local members = redis.call('ZRANGEBYLEX', KEYS[1], from, '+', 'LIMIT', 0, count)
  for _, member in ipairs(members) do
    local id, node = string.sub(member, 1, ID_LEN), string.sub(member, ID_LEN + 1)
    if alive[node] == nil then
      alive[node] = is_alive(node)
    end
    if alive[node] then
      if #page > limit then
        page[1] = last or ''
        return page
      end
      page[#page + 1] = id
    end
    last = id
    from = '(' .. member
  end
  budget = budget - #members
  if #members < count then
    return page
  end
  if budget <= 0 then
    page[1] = last
    return page
  end
end
