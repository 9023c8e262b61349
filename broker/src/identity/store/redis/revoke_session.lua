local token, now = unpack(ARGV)
local family = find_family(token)
if not family then return 0 end
end_family(family, now)
return 1
