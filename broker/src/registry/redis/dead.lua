-- Nodes that may have left something and whose lease has run out. KEYS: the nodes. ARGV: root.
local dead = {}
for _, node in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if not is_alive(node) then
    dead[#dead + 1] = node
  end
end
return dead
