-- Promise: takes our brake off and nothing else, in one step, and workers wake at once. Running it
-- again changes nothing.
--
-- Ours means: the concurrency is still the very text that only our brake writes, and the mark is
-- under our token, as we wrote it. What a person set meanwhile stays, their 0 as well; then only the
-- mark, which is ours, goes.
-- Workers of version 5 and later sleep on the key `marker` for seconds: without an entry there the
-- first job came after 3 s, with it after 7 ms. A queue that a person paused as well gets none.
--
-- KEYS: meta, wait, prioritized, marker
-- ARGV: 1 token, 2 version (may be empty: a crash kept it from being stored)
-- Returns { outcome, what stands there now or '' }
local META, WAIT, PRIORITIZED, MARKER = 1, 2, 3, 4
local TYPES = { 'hash', 'list', 'zset', 'zset' }
local FIELD, BRAKE = 'starforge-backlog', '00'
local token, version, call = ARGV[1], ARGV[2], redis.call

for number, key in ipairs(KEYS) do
  local found = call('TYPE', key)['ok']
  if found ~= 'none' and found ~= TYPES[number] then
    return { 'BadShape', key, found }
  end
  if number == META and found == 'none' then return { 'RowMissing', '' } end
end

local meta = call('HMGET', KEYS[META], 'paused', 'concurrency', FIELD)
local paused, concurrency, mark = meta[1], meta[2], meta[3]
local braked = concurrency and (tonumber(concurrency) or 1) <= 0
local theirs = { (braked or paused) and 'NotOurs' or 'NotPaused', concurrency or '' }
local understood, parsed = pcall(cjson.decode, mark or 'null')
if not (mark and understood and type(parsed) == 'table' and parsed.token == token) then
  return theirs
end
local as_written = version == '' or version == redis.sha1hex(mark)
if concurrency ~= BRAKE then
  if as_written then call('HDEL', KEYS[META], FIELD) end
  return theirs
end
if not as_written then return { 'ChangedSince', concurrency } end
local previous = type(parsed.previous) == 'string' and parsed.previous or nil
if previous then
  call('HSET', KEYS[META], 'concurrency', previous)
else
  call('HDEL', KEYS[META], 'concurrency')
end
call('HDEL', KEYS[META], FIELD)
local waits = call('LLEN', KEYS[WAIT]) + call('ZCARD', KEYS[PRIORITIZED])
if waits > 0 and not paused then call('ZADD', KEYS[MARKER], 0, '0') end
return { 'Resumed', previous or '' }
