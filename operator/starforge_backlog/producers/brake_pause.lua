-- Promise: the queue hands no more jobs out, unless another client paused it before, in one step; and the
-- queue then proves whose brake it is. Any number of operators may run it at once, and again after
-- a crash with the same token.
--
-- Ours is the value itself: '00', a zero to every BullMQ (its scripts compare tonumber() of it, Node
-- and Python read it as a number), and text that nobody's setGlobalConcurrency() writes, which
-- writes '0' (and '0.0' from a float). The mark says whose of several operators; it stays behind
-- when a person lifts the brake, so beside any other value, 0 too, it proves nothing.
--
-- By the global concurrency, never by BullMQ's own pause: versions 5 and 6 pause in different ways,
-- and where both share a queue one loses what the other keeps. The mark is a field of the hash
-- `meta` beside it: written and removed in the same step, gone when the queue is obliterated, and
-- unknown to removeOrphanedJobs(), which deletes any key that it does not know.
-- Paused by a person is `meta.paused` alone: every version writes it. Jobs in the list `paused` of a
-- queue that is not paused are stranded there, while the others run.
-- Types are checked before the first write: a script that fails half way is not undone.
--
-- KEYS: meta, id, wait, paused
-- ARGV: 1 token, 2 owner, 3 at, 4 why
-- Returns { outcome, previous or false, version }
local META = 1
local TYPES = { 'hash', 'string', 'list', 'list' }
local FIELD, BRAKE = 'starforge-backlog', '00'
local LONGEST = 100
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
local paused, concurrency, mark = meta[1], meta[2], meta[3]
if concurrency == BRAKE then
  local understood, parsed = pcall(cjson.decode, mark or 'null')
  if mark and understood and type(parsed) == 'table' and parsed.token == token then
    local previous = type(parsed.previous) == 'string' and parsed.previous
    return { 'AlreadyOurs', previous, redis.sha1hex(mark) }
  end
end
local braked = concurrency and (tonumber(concurrency) or 1) <= 0
if braked or paused then return { 'AlreadyPaused', false, '' } end
-- What a resume puts back stands in the policy's status as well, which has an end; no number is long.
if concurrency and #concurrency > LONGEST then
  return { 'BadShape', KEYS[META], 'hash, with a concurrency of ' .. #concurrency .. ' bytes' }
end

-- No previous: there was no limit, which is not the same as a limit of any size. A mark that is
-- found without a brake was left when a person lifted it.
local new = cjson.encode({
  token = token, owner = ARGV[2], at = ARGV[3], why = ARGV[4], previous = concurrency or nil,
})
call('HSET', KEYS[META], 'concurrency', BRAKE, FIELD, new)
return { 'Paused', concurrency or false, redis.sha1hex(new) }
