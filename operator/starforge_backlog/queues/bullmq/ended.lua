-- Names of the jobs that ended last, well or badly.
-- Promise (P7): at most `most` jobs of each outcome, the newest first; bounded in bytes by
-- bounded.lua, which is in front of this.
--
-- KEYS: 1 completed, 2 failed
-- ARGV: 1 start of all job keys, 2 since (ms since 1970), 3 most
-- Returns two flat lists of name and time, and 1 where ids were too long for all to be read, else 0.
local LAST = '8640000000000000' -- ms since 1970: the last date that JavaScript has
local ends = { {}, {}, 0 }
for number, key in ipairs(KEYS) do
  local scores = {}
  local ids, cut = ids_of(tonumber(ARGV[3]), function(first, count)
    local some = {}
    local found = redis.call('ZREVRANGEBYSCORE', key, LAST, ARGV[2], 'WITHSCORES', 'LIMIT', first, count)
    for at = 1, #found, 2 do
      some[#some + 1], scores[found[at]] = found[at], found[at + 1]
    end
    return some
  end)
  if cut then ends[3] = 1 end
  for _, id in ipairs(ids) do
    local job, flat = ARGV[1] .. id, ends[number]
    -- A key that is no hash is a job without a name.
    flat[#flat + 1] = name_of(job) or ''
    flat[#flat + 1] = scores[id]
  end
end
return ends
