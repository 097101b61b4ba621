-- Microseconds of each logged command of clients with one name; the log is empty afterwards.
-- Here, not in Python: tens of thousands of entries would keep the machine busy that is measured.
--
-- ARGV: 1 the clients' name
local found = {}
for _, entry in ipairs(redis.call('SLOWLOG', 'GET', 1000000)) do
  if entry[6] == ARGV[1] then found[#found + 1] = entry[3] end
end
redis.call('SLOWLOG', 'RESET')
return found
