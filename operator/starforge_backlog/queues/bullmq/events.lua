-- What happened lately, from the newest entries of a BullMQ queue's event stream (majors 4 to 6).
-- Promise (P7): reads at most `most` entries and not many bytes, whatever happened since. An entry
-- holds what the application handed over (progress, return values, reasons), and Redis cannot
-- report its size without reading it. What it can report is the size of the whole stream:
--   small                  the newest `most` entries at once
--   large, of small ones   few, one by one, and no further than the last reading went
--   large ones on average  none of them: `heavy` says how large. 500 of 200 kB took 1.5 s.
-- Where they do not reach back to the entry that was read last, the answer is a sample, the newest
-- part of it, and `whole` says that it is not all. Redis 7 and later count what was ever added, which
-- shows how many are missing; but XINFO answers with the first and the last entry, so only a small
-- stream is asked for it.
--
-- A job that goes back to wait or to delayed has failed only if its hash has a reason: BullMQ says
-- the same when it is limited in rate, delays itself, gets another delay or lost its worker. One
-- whose hash is gone by now is taken for failed.
--
-- KEYS: 1 the stream
-- ARGV: 1 most (entries), 2 last (id of the newest entry of the time before; "0-0": there was
--       none; "": the first read), 3 major (4: an automatic retry says prev=failed), 4 start of all
--       job keys, 5 small (bytes of a stream), 6 average (bytes of an entry, above which none is
--       read), 7 few (entries read one by one), 8 budget (bytes read one by one), 9 nodes (of the
--       stream that are measured)
-- Returns JSON. `from` is when the slice begins (ms since 1970).
local most, last, major, base = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4]
local small, average, few = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local budget, nodes = tonumber(ARGV[8]), tonumber(ARGV[9])

local function parts(id)
  local ms, number = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(number)
end
local function after(id, other)
  local ms, number = parts(id)
  local other_ms, other_number = parts(other)
  return ms > other_ms or (ms == other_ms and number > other_number)
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- A node holds one entry at least, so this is all of a stream of no more entries than `nodes`. Not
-- every server knows the command.
local length = redis.call('XLEN', KEYS[1])
local size = redis.pcall('MEMORY', 'USAGE', KEYS[1], 'SAMPLES', nodes)
if type(size) ~= 'number' then size = false end
local is_small = size and length <= nodes and size <= small
if size and size > budget and size > average * length then
  return cjson.encode({ heavy = math.floor(size / math.max(length, 1)) })
end

local entries, bytes, ever = {}, 0, false
if is_small then
  entries = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', most)
  local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
  if not info['err'] then
    for at = 1, #info, 2 do
      if info[at] == 'entries-added' then ever = info[at + 1] end
    end
  end
else
  local newest, oldest = '+', last == '' and '-' or '(' .. last
  while #entries < few and bytes <= budget do
    local entry = redis.call('XREVRANGE', KEYS[1], newest, oldest, 'COUNT', 1)[1]
    if not entry then break end
    entries[#entries + 1], newest = entry, '(' .. entry[1]
    for _, word in ipairs(entry[2]) do bytes = bytes + #word end
  end
end
local n = { ever = ever, now = now, over = not is_small and bytes > 2 * budget,
  newest = entries[1] and entries[1][1] or (length > 0 and last or '0-0') }
for _, name in ipairs({ 'added', 'again', 'replaced', 'completed', 'failed', 'retried', 'restarted',
  'removed', 'entries' }) do
  n[name] = 0
end

n.whole = false
local first = #entries -- the oldest entry that is new to us
if last ~= '' and is_small then
  for at, entry in ipairs(entries) do
    if not after(entry[1], last) then
      first, n.whole = at - 1, true
      break
    end
  end
  if #entries == 0 and last == '0-0' then
    n.whole = true
  elseif last == '0-0' and #entries < most then
    n.whole = true -- nothing was there before, and all that came is still there
  end
elseif last ~= '' then
  -- All that is newer was read, and what is older is still there.
  n.whole = #entries < few and bytes <= budget and (#entries < length or last == '0-0')
end
n.from = first > 0 and parts(entries[first][1]) or now
n.entries = first

local LIVE = { waiting = true, wait = true, paused = true, active = true, delayed = true,
  prioritized = true, ['waiting-children'] = true }
local just_added, just_retried, just_removed = nil, nil, false
local function retried(id)
  local key = base .. id
  if redis.call('HEXISTS', key, 'failedReason') == 1 or redis.call('EXISTS', key) == 0 then
    n.retried = n.retried + 1
    just_retried = id
  end
end
for at = first, 1, -1 do
  local f, fields = {}, entries[at][2]
  for i = 1, #fields, 2 do
    f[fields[i]] = fields[i + 1]
  end
  local event, id, prev = f.event, f.jobId, f.prev
  local was_added, was_retried, was_removed = just_added, just_retried, just_removed
  just_added, just_retried, just_removed = nil, nil, false
  if event == 'added' then
    n.added = n.added + 1
    just_added = id
  elseif event == 'duplicated' then
    n.again = n.again + 1
  elseif event == 'debounced' then
    just_removed = was_removed -- BullMQ 5 says the same twice; the second one counts
  elseif event == 'deduplicated' then
    if was_removed then
      n.replaced = n.replaced + 1
      n.removed = n.removed - 1
    else
      n.again = n.again + 1
    end
  elseif event == 'completed' then
    n.completed = n.completed + 1
  elseif event == 'failed' then
    n.failed = n.failed + 1
  elseif event == 'delayed' and was_added ~= id then
    retried(id) -- an add of a delayed job is announced twice, this is a retry with backoff
  elseif event == 'waiting' then
    if prev == 'active' or (prev == 'failed' and major == 4) then
      retried(id)
    elseif prev == 'failed' or prev == 'completed' then
      n.restarted = n.restarted + 1
    end
  elseif event == 'stalled' and was_retried == id then
    n.retried = n.retried - 1 -- given out again, after an attempt that had failed before
  elseif event == 'removed' then
    just_removed = prev == 'delayed'
    if LIVE[prev] then
      n.removed = n.removed + 1
    end
  end
end
return cjson.encode(n)
