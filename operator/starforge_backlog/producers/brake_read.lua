-- Promise: reads only, a handful of keys however long the queue is, and reports a key of another
-- type instead of failing half way. Bounded in bytes by bounded.lua, which is in front of this.
--
-- KEYS: meta, id, wait, paused, active, prioritized, marker, completed, failed, events, meta-paused
-- ARGV: 1 start of all job keys ("bull:etl:")
-- Returns JSON.
local META, ID, WAIT, PAUSED, ACTIVE, PRIORITIZED, MARKER = 1, 2, 3, 4, 5, 6, 7
local COMPLETED, FAILED, EVENTS, BULL_PAUSED = 8, 9, 10, 11
local TYPES = {
  'hash', 'string', 'list', 'list', 'list', 'zset', 'zset', 'zset', 'zset', 'stream', 'string',
}
local FIELD, BRAKE = 'starforge-backlog', '00'
local base, call = ARGV[1], redis.call

local exists = {}
for number, key in ipairs(KEYS) do
  local found = call('TYPE', key)['ok']
  exists[number] = found ~= 'none'
  if exists[number] and found ~= TYPES[number] then
    return cjson.encode({ wrong = key, is = found, should = TYPES[number] })
  end
end

-- Version 4 is recognised by its jobs' fields, and by job ids that are no jobs ("0:<time>") in the
-- list where later versions have the key `marker`. Of ended jobs the last alone counts: those
-- before it may be from before an upgrade.
local old, new = 0, exists[MARKER] and 1 or 0
local function judge(id)
  if call('TYPE', base .. id)['ok'] ~= 'hash' then return end
  local fields = call('HMGET', base .. id, 'attemptsMade', 'atm', 'ats')
  if fields[2] or fields[3] then
    new = new + 1
  elseif fields[1] then
    old = old + 1
  end
end
for _, id in ipairs(call('LRANGE', KEYS[ACTIVE], 0, 9)) do judge(id) end
local last, when
for _, key in ipairs({ KEYS[COMPLETED], KEYS[FAILED] }) do
  local ended = call('ZRANGE', key, -1, -1, 'WITHSCORES')
  if ended[1] and (not when or tonumber(ended[2]) > when) then
    last, when = ended[1], tonumber(ended[2])
  end
end
if last and old == 0 and new == 0 then judge(last) end
for _, key in ipairs({ KEYS[WAIT], KEYS[PAUSED] }) do
  for _, id in ipairs(call('LRANGE', key, -1, -1)) do
    if string.sub(id, 1, 2) == '0:' then old = old + 1 end
  end
end

local meta = words(KEYS[META], 'concurrency', 'version')
local concurrency, version = meta[1], meta[2]
local field = if_small(KEYS[META], FIELD, MOST_OPTIONS)
local mark = call('HGET', KEYS[META], field)
local understood, parsed = pcall(cjson.decode, mark or 'null')
local token, previous
if mark and understood and type(parsed) == 'table' and type(parsed.token) == 'string' then
  token = parsed.token
  previous = type(parsed.previous) == 'string' and parsed.previous or nil
end
-- Bull, the library before BullMQ, writes no events, and `meta` only beside `meta-paused`.
local of_bullmq = exists[EVENTS] or (exists[META] and not exists[BULL_PAUSED])
return cjson.encode({
  bull = exists[ID] and not of_bullmq,
  exists = exists[META] or exists[ID] or exists[WAIT] or exists[PAUSED],
  paused = call('HEXISTS', KEYS[META], 'paused') == 1,
  brake = concurrency == BRAKE,
  concurrency = concurrency or nil,
  library = version or nil,
  token = token,
  previous = previous,
  mark = mark and redis.sha1hex(mark) or nil,
  old = old,
  new = new,
})
