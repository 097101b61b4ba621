-- Names and due times of some waiting jobs: a few blocks of neighbours from one list or sorted set.
-- Promise (P7): reads as many jobs as it is asked to, wherever they are; the caller keeps blocks
-- few, because Redis walks to the middle of a list, and asks again for more, so that other clients
-- get their turn in between. Bounded in bytes by bounded.lua, which is in front of this.
--
-- KEYS: 1 wait, paused, prioritized or delayed
-- ARGV: 1 start of all job keys, 2 jobs per block, 3… where blocks begin
-- Returns "1" if ids were too long for all to be read, else "0"; then name, created, delay, attempts,
-- started, processed, score of each job, flat.
local base, length = ARGV[1], tonumber(ARGV[2])
local list = redis.call('TYPE', KEYS[1])['ok'] == 'list'
local found = { '0' }
for at = 3, #ARGV do
  local from = tonumber(ARGV[at])
  local scores = {}
  local ids, cut = ids_of(length, function(first, count)
    local start = from + first
    if list then return redis.call('LRANGE', KEYS[1], start, start + count - 1) end
    local some = {}
    local pairs_ = redis.call('ZRANGE', KEYS[1], start, start + count - 1, 'WITHSCORES')
    for i = 1, #pairs_, 2 do
      some[#some + 1], scores[pairs_[i]] = pairs_[i], pairs_[i + 1]
    end
    return some
  end)
  if cut then found[1] = '1' end
  for _, id in ipairs(ids) do
    if string.sub(id, 1, 2) ~= '0:' then -- BullMQ 4's sign for idle workers
      local f, odd = job_of(base .. id, 'atm', 'attemptsMade', 'ats', 'processedOn')
      f = f or {}
      local at_ = #found
      -- Without a known time of creation it has no age; it is counted all the same.
      found[at_ + 1], found[at_ + 2] = f[1] or '', odd and 'nan' or f[2] or '0'
      found[at_ + 3], found[at_ + 4] = string.format('%.0f', delay_of(f[3])), f[4] or f[5] or '0'
      found[at_ + 5], found[at_ + 6] = f[6] or '0', f[7] or '0'
      found[at_ + 7] = scores[id] or '0'
    end
  end
end
return found
