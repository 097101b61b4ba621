-- Promise: the queue hands no more jobs out, unless somebody paused it before, in one step; and the
-- queue then proves whose brake it is. Any number of operators may run it at once, and again after
-- a crash with the same token.
--
-- By the global concurrency, never by BullMQ's own pause: versions 5 and 6 pause in different ways,
-- and where both share a queue one loses what the other keeps. The mark is a field of the hash
-- `meta` beside it: written and removed in the same step, gone when the queue is obliterated, and
-- unknown to removeOrphanedJobs(), which deletes any key that it does not know.
-- Types are looked at before the first write: a script that fails half way is not undone.
--
-- KEYS: meta, id, wait, paused
-- ARGV: 1 token, 2 owner, 3 at, 4 why
-- Returns { outcome, previous or false, version }
local META, ID, WAIT, PAUSED = 1, 2, 3, 4
local TYPES = { 'hash', 'string', 'list', 'list' }
local FIELD = 'starforge-backlog'
local token, call = ARGV[1], redis.call

local exists = false
for number, key in ipairs(KEYS) do
  local found = call('TYPE', key)['ok']
  exists = exists or found ~= 'none'
  if found ~= 'none' and found ~= TYPES[number] then
    return { 'BadShape', key, found }
  end
end
if not exists then return { 'RowMissing', false, '' } end

local meta = call('HMGET', KEYS[META], 'paused', 'concurrency', FIELD)
local paused = meta[1] or call('EXISTS', KEYS[PAUSED]) == 1
local concurrency, mark = meta[2], meta[3]
local braked = concurrency and (tonumber(concurrency) or 1) <= 0
if braked then
  local understood, parsed = pcall(cjson.decode, mark or 'null')
  if mark and understood and type(parsed) == 'table' and parsed.token == token then
    return { 'AlreadyOurs', parsed.previous or false, redis.sha1hex(mark) }
  end
end
if braked or paused then return { 'AlreadyPaused', false, '' } end

-- No previous: there was no limit, which is not the same as a limit of any size. A mark that is
-- found without a brake was left when a person lifted it.
local new = cjson.encode({
  token = token, owner = ARGV[2], at = ARGV[3], why = ARGV[4], previous = concurrency or nil,
})
call('HSET', KEYS[META], 'concurrency', '0', FIELD, new)
return { 'Paused', concurrency or false, redis.sha1hex(new) }
