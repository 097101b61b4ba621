-- Names of the jobs that ended last, well or badly.
-- Promise (P7): at most `most` jobs of each outcome, the newest first.
--
-- KEYS: 1 completed, 2 failed
-- ARGV: 1 start of all job keys, 2 since (ms since 1970), 3 most
-- Returns two flat lists of name and time.
local LAST = '8640000000000000' -- ms since 1970: the last date that JavaScript has
local ends = {}
for number, key in ipairs(KEYS) do
  local found = redis.call('ZREVRANGEBYSCORE', key, LAST, ARGV[2], 'WITHSCORES', 'LIMIT', 0, ARGV[3])
  for at = 1, #found, 2 do
    local name = redis.pcall('HGET', ARGV[1] .. found[at], 'name')
    if type(name) == 'table' then -- an error; a key that is no hash is a job without a name
      if not string.find(name['err'], 'WRONGTYPE', 1, true) then error(name['err'], 0) end
      name = false
    end
    found[at] = name or ''
  end
  ends[number] = found
end
return ends
