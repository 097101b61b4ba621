-- Names and due times of some waiting jobs: a few blocks of neighbours from one list or sorted set.
-- Promise (P7): reads as many jobs as it is told to, wherever they are; the caller keeps blocks
-- few, because Redis walks to the middle of a list, and asks again for more, so that other clients
-- get their turn in between.
--
-- KEYS: 1 wait, paused, prioritized or delayed
-- ARGV: 1 start of all job keys, 2 jobs per block, 3… where blocks begin
-- Returns name, created, delay, attempts, started, processed, score of each job, flat.
local base, length = ARGV[1], tonumber(ARGV[2])
local list = redis.call('TYPE', KEYS[1])['ok'] == 'list'
local found = {}
for at = 3, #ARGV do
  local from = tonumber(ARGV[at])
  local ids, scores = {}, {}
  if list then
    ids = redis.call('LRANGE', KEYS[1], from, from + length - 1)
  else
    local pairs_ = redis.call('ZRANGE', KEYS[1], from, from + length - 1, 'WITHSCORES')
    for i = 1, #pairs_, 2 do
      ids[#ids + 1], scores[#scores + 1] = pairs_[i], pairs_[i + 1]
    end
  end
  for number, id in ipairs(ids) do
    if string.sub(id, 1, 2) ~= '0:' then -- BullMQ 4's sign for idle workers
      local f = redis.pcall('HMGET', base .. id, 'name', 'timestamp', 'opts', 'atm', 'attemptsMade',
        'ats', 'processedOn')
      if f['err'] and not string.find(f['err'], 'WRONGTYPE', 1, true) then error(f['err'], 0) end
      local delay = 0
      if f[3] and string.find(f[3], '"delay"', 1, true) then
        local fine, opts = pcall(cjson.decode, f[3])
        delay = fine and type(opts) == 'table' and tonumber(opts.delay) or 0
        if delay < 0 then delay = 0 end -- BullMQ takes it for none
      end
      local at_ = #found
      found[at_ + 1], found[at_ + 2] = f[1] or '', f[2] or '0'
      found[at_ + 3], found[at_ + 4] = string.format('%.0f', delay), f[4] or f[5] or '0'
      found[at_ + 5], found[at_ + 6] = f[6] or '0', f[7] or '0'
      found[at_ + 7] = scores[number] or '0'
    end
  end
end
return found
