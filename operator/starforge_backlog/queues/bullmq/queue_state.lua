-- One state of a BullMQ queue (majors 4 to 6): counts of one moment, and the jobs that may be the
-- oldest. Promise (P7): reads only, never walks the queue; every loop below has an end that does
-- not depend on how many jobs there are, and bounded.lua, which is in front of this, bounds the bytes
-- that jobs' own text brings. P2: a key of another type is reported, not counted as empty.
-- Jobs' fields and scores are anybody's: what is no number, or not possible, is reported with its job
-- and counts as 0, because cjson refuses to write an infinity and one job would hide the whole queue.
--
-- KEYS: see keys.py, in the order of `Keys.fixed`.
-- ARGV: 1 start of all job keys ("bull:etl:"), 2 tail (jobs at the end of a list that are
--       read), 3 priorities (read), 4 active (jobs in progress whose lock is searched for),
--       5 since (ms; when the sample before was taken), 6 window (ms; of finished jobs), 7 groups (of
--       BullMQ Pro whose lists are counted, of each state)
-- Returns JSON. Times are in ms since 1970, by Redis' clock.
local ID, WAIT, PAUSED, ACTIVE, DELAYED, PRIORITIZED = 1, 2, 3, 4, 5, 6
local COMPLETED, FAILED, CHILDREN, META, MARKER = 7, 8, 9, 10, 11
local EVENTS, METRICS_COMPLETED, METRICS_FAILED, BULL_PAUSED = 12, 13, 14, 15
local TYPES = {
  'string', 'list', 'list', 'list', 'zset', 'zset', 'zset', 'zset', 'zset', 'hash', 'zset',
  'stream', 'hash', 'hash', 'string',
}
local base, tail = ARGV[1], tonumber(ARGV[2])
local priorities, most_active = tonumber(ARGV[3]), tonumber(ARGV[4])
local since, window = tonumber(ARGV[5]), tonumber(ARGV[6])
local most_groups = tonumber(ARGV[7])
local call = redis.call
local MOST = 8.64e15 -- ms since 1970: the last date that JavaScript has
local BRAKE = '00' -- as only the operator's own brake writes it, see producers/brake_pause.lua

local exists = {}
for number, key in ipairs(KEYS) do
  local found = call('TYPE', key)['ok']
  exists[number] = found ~= 'none'
  if exists[number] and found ~= TYPES[number] then
    return cjson.encode({ wrong = key, is = found, should = TYPES[number] })
  end
end

local counter = call('STRLEN', KEYS[ID]) <= 18 and (call('GET', KEYS[ID]) or '0') or ''
if not string.find(counter, '^%d+$') then
  return cjson.encode({ no_number = KEYS[ID] })
end

local time = call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- The twelve low bits of a delayed job's score are a sequence number.
local due = now * 4096 + 4095
local result = {
  now = now,
  meta = exists[META],
  events = exists[EVENTS],
  bull_paused = exists[BULL_PAUSED],
  marker = exists[MARKER],
  has_id = exists[ID],
  id = counter,
  wait = call('LLEN', KEYS[WAIT]),
  paused = call('LLEN', KEYS[PAUSED]),
  active = call('LLEN', KEYS[ACTIVE]),
  delayed = call('ZCARD', KEYS[DELAYED]),
  due = call('ZCOUNT', KEYS[DELAYED], '-inf', string.format('%.0f', due)),
  prioritized = call('ZCARD', KEYS[PRIORITIZED]),
  completed = call('ZCARD', KEYS[COMPLETED]),
  failed = call('ZCARD', KEYS[FAILED]),
  children = call('ZCARD', KEYS[CHILDREN]),
}
-- Ended at no time of this world: not lately, and not the first.
local last = string.format('%.0f', MOST)
local from = string.format('%.0f', now - window)
local after = string.format('(%.0f', since)
result.completed_lately = call('ZCOUNT', KEYS[COMPLETED], from, last)
result.failed_lately = call('ZCOUNT', KEYS[FAILED], from, last)
result.failed_since = call('ZCOUNT', KEYS[FAILED], after, last)
result.first_completed = call('ZRANGEBYSCORE', KEYS[COMPLETED], 0, last, 'WITHSCORES', 'LIMIT', 0, 1)[2]

local meta = words(KEYS[META], 'concurrency', 'version', 'max', 'duration')
result.limit_max, result.limit_duration = meta[3], meta[4]
result.meta_paused = call('HEXISTS', KEYS[META], 'paused') == 1 -- whatever its value: as BullMQ reads it
result.concurrency, result.version, result.token = meta[1], meta[2], false
if meta[1] == BRAKE then
  local field = if_small(KEYS[META], 'starforge-backlog', MOST_OPTIONS)
  local understood, mark = pcall(cjson.decode, call('HGET', KEYS[META], field) or 'null')
  if understood and type(mark) == 'table' and type(mark.token) == 'string' then
    result.token = mark.token
  end
end
result.metrics_completed = words(KEYS[METRICS_COMPLETED], 'count')[1]
result.metrics_failed = words(KEYS[METRICS_FAILED], 'count')[1]

-- Jobs, each as {id, place, name, created, delay, attempts, started, processed, stalls, due, odd}.
local jobs, markers, seen = {}, 0, {}
local old_style, new_style = 0, 0

-- The number, and whether it is none.
local function number(text)
  local found = tonumber(text or 0)
  if found and found >= 0 and found <= MOST then return math.floor(found), false end
  return 0, true
end

local NONE = { false, false, false, false, false, false, false, false, false } -- of no hash
local function add(id, place, score)
  if string.sub(id, 1, 2) == '0:' then -- BullMQ 4: a sign for idle workers, no job
    markers = markers + 1
    return
  end
  if seen[id] then
    return
  end
  seen[id] = true
  local f, odd = job_of(base .. id, 'atm', 'attemptsMade', 'ats', 'processedOn', 'stc',
    'stalledCounter')
  f = f or NONE
  if f[5] then old_style = old_style + 1 end
  if f[4] or f[6] then new_style = new_style + 1 end
  local due_at = score and tonumber(score) / 4096
  local job = { shown_id(id), place, f[1] or '' }
  for _, value in ipairs({
    f[2], delay_of(f[3]), f[4] or f[5], f[6], f[7], f[8] or f[9], due_at or false,
  }) do
    local found, none = number(value)
    job[#job + 1], odd = found, odd or none
  end
  job[#job + 1] = odd
  jobs[#jobs + 1] = job
end

-- The end of a list is its head: workers take from there.
local function from_the_end(key, most)
  return ids_of(most, function(first, count)
    local some, found = {}, call('LRANGE', key, -(first + count), -(first + 1))
    for at = #found, 1, -1 do some[#some + 1] = found[at] end
    return some
  end)
end

result.long_ids = false
for _, list in ipairs({ WAIT, PAUSED }) do
  local name = list == WAIT and 'wait' or 'paused'
  local first, cut = from_the_end(KEYS[list], tail)
  result.long_ids = result.long_ids or cut
  for _, id in ipairs(first) do add(id, name) end
  -- LIFO jobs are put where workers take from, so the oldest of them end up on the other side.
  if call('LLEN', KEYS[list]) > tail and not cut then
    for _, id in ipairs(call('LRANGE', KEYS[list], 0, 4)) do
      add(id, name .. '-back')
    end
  end
end

-- The first of each priority: score = priority * 2^32 + a counter. From both ends, because the last
-- priorities are those that wait the longest.
local PRIORITY = 4294967296
local MOST_EXACT = 2 ^ 53 -- no priority of BullMQ's is beyond; there one more is the same number
local score, distinct, bytes, past = '-inf', 0, 0, false
while distinct < priorities and bytes <= MOST_IDS do
  local first = call('ZRANGEBYSCORE', KEYS[PRIORITIZED], score, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if not first[1] then
    past = true
    break
  end
  distinct, bytes = distinct + 1, bytes + #first[1]
  add(first[1], 'prioritized')
  local found = tonumber(first[2])
  if math.abs(found) < MOST_EXACT then
    score = string.format('%.0f', (math.floor(found / PRIORITY) + 1) * PRIORITY)
  else
    score = '(' .. first[2]
  end
end
local below, counted, front = '+inf', 0, tonumber(score)
while not past and front and counted < priorities and bytes <= 2 * MOST_IDS do
  local last = call('ZREVRANGEBYSCORE', KEYS[PRIORITIZED], below, '-inf', 'WITHSCORES', 'LIMIT', 0, 1)
  local found = last[2] and tonumber(last[2])
  if not found or found < front then
    past = true -- both ends have met
  elseif math.abs(found) >= MOST_EXACT then
    break
  else
    local start = string.format('%.0f', math.floor(found / PRIORITY) * PRIORITY)
    local first = call('ZRANGEBYSCORE', KEYS[PRIORITIZED], start, '+inf', 'LIMIT', 0, 1)
    counted, bytes = counted + 1, bytes + #first[1]
    add(first[1], 'prioritized')
    below = '(' .. start
  end
end
result.all_priorities = past

if result.due > 0 then
  for _, pair in ipairs({ call('ZRANGE', KEYS[DELAYED], 0, 4, 'WITHSCORES') }) do
    for at = 1, #pair, 2 do
      if tonumber(pair[at + 1]) <= due then
        add(pair[at], 'delayed', pair[at + 1])
      end
    end
  end
end
result.jobs, result.markers = jobs, markers

local held, orphaned, stalled, signs = 0, 0, 0, 0
local running = from_the_end(KEYS[ACTIVE], most_active) -- the longest running first
for _, id in ipairs(running) do
  if string.sub(id, 1, 2) == '0:' then -- BullMQ 4: a worker took its own sign for a moment
    signs = signs + 1
  else
    held = held + 1
    if call('EXISTS', base .. id .. ':lock') == 0 then
      orphaned = orphaned + 1
    end
    local f = redis.pcall('HMGET', base .. id, 'stc', 'stalledCounter', 'atm', 'ats', 'attemptsMade')
    if f['err'] and not string.find(f['err'], 'WRONGTYPE', 1, true) then error(f['err'], 0) end
    if (tonumber(f[1] or f[2]) or 0) > 0 then stalled = stalled + 1 end
    if f[5] then old_style = old_style + 1 end
    if f[3] or f[4] then new_style = new_style + 1 end
  end
end
-- Groups of BullMQ Pro: jobs wait in a list per group, and of the groups there is a sorted set per
-- state. Only what a list shows is counted; Pro has further keys that are not published.
result.groups, result.grouped, result.groups_read = 0, 0, 0
local function size_of(key)
  local kind = call('TYPE', key)['ok']
  if kind == 'list' then return call('LLEN', key) end
  return kind == 'zset' and call('ZCARD', key) or 0
end
for _, state in ipairs({ 'groups', 'groups:limit', 'groups:max', 'groups:paused' }) do
  if call('TYPE', base .. state)['ok'] == 'zset' then
    result.groups = result.groups + call('ZCARD', base .. state)
    local names = ids_of(most_groups, function(first, count)
      return call('ZRANGE', base .. state, first, first + count - 1)
    end)
    for _, group in ipairs(names) do
      local key = base .. 'groups:' .. group
      result.groups_read = result.groups_read + 1
      result.grouped = result.grouped + size_of(key) + size_of(key .. ':p')
    end
  end
end

result.active = result.active - signs
result.active_read, result.orphaned, result.stalled_active = held, orphaned, stalled
result.old_style, result.new_style = old_style, new_style
return cjson.encode(result)
