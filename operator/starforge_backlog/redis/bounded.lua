-- What reads something of a size that others decide; in front of each script that does (see
-- load_script). Promise (P7): nothing is read before its size is known to be small. A job may have a
-- payload of megabytes for its name, its options or its id, and a field of `meta` is anybody's; Redis
-- takes 2 to 10 ms to hand a script one megabyte, and answers nobody meanwhile.
local MOST_NAME = 1024 -- bytes; people's names of jobs have tens
local MOST_OPTIONS = 4096 -- bytes of JSON; BullMQ's own have hundreds
local MOST_WORD = 256 -- bytes of a number, a version, a token
local MOST_IDS = 16384 -- bytes of ids, after which no further ones are read
local IDS_AT_ONCE = 20
local MOST_ID_SHOWN = 100 -- bytes
local NO_FIELD = '\0' -- stands for one that is too long to be read

-- Of a hash: the name of the field, or of one that does not exist, and its size where it is too long.
-- Without a second value and with nil for the first: the key is no hash.
local function if_small(key, field, most)
  local size = redis.pcall('HSTRLEN', key, field)
  if type(size) == 'table' then
    if string.find(size['err'], 'WRONGTYPE', 1, true) then return nil end
    error(size['err'], 0)
  end
  if size > most then return NO_FIELD, size end
  return field
end

-- Of a hash of which nobody else but people writes the fields: those that are words, in order.
local function words(key, ...)
  local fields = {}
  for at, field in ipairs({ ... }) do fields[at] = if_small(key, field, MOST_WORD) end
  return redis.call('HMGET', key, unpack(fields))
end

-- A job's name as it is distinguished from others: one that is too long by its size. nil: no hash.
local function name_of(key)
  local field, size = if_small(key, 'name', MOST_NAME)
  if not field then return nil end
  if size then return string.format('(a name of %d bytes)', size) end
  return redis.call('HGET', key, field) or ''
end

-- Name, time of creation, options and further fields of a job, and whether one of them was too long
-- to be read. nil: the key is no hash. The further ones are numbers that BullMQ counts with.
local function job_of(key, ...)
  local name, name_size = if_small(key, 'name', MOST_NAME)
  if not name then return nil, true end
  local created, created_size = if_small(key, 'timestamp', MOST_WORD)
  local options, options_size = if_small(key, 'opts', MOST_OPTIONS)
  local found = redis.call('HMGET', key, name, created, options, ...)
  if name_size then found[1] = string.format('(a name of %d bytes)', name_size) end
  return found, (created_size or options_size) ~= nil
end

-- opts.delay keeps what was asked for; the field `delay` is 0 once a job was promoted.
local function delay_of(options)
  if not options or not string.find(options, '"delay"', 1, true) then return 0 end
  local fine, decoded = pcall(cjson.decode, options)
  local asked = fine and type(decoded) == 'table' and tonumber(decoded.delay) or 0
  return asked > 0 and asked or 0 -- BullMQ takes a negative one for none
end

-- Ids by `read(first, count)`, at most `many` of them, a few at a time; and whether they were too
-- long for all to be read.
local function ids_of(many, read)
  local found, bytes = {}, 0
  while #found < many do
    local wanted = math.min(IDS_AT_ONCE, many - #found)
    local some = read(#found, wanted)
    for _, id in ipairs(some) do
      found[#found + 1], bytes = id, bytes + #id
    end
    if #some < wanted then return found, false end
    if bytes > MOST_IDS and #found < many then return found, true end
  end
  return found, false
end

-- An id that may be shown: of a long one the beginning and a digest, so that two stay two.
local function shown_id(id)
  if #id <= MOST_ID_SHOWN then return id end
  return string.sub(id, 1, MOST_ID_SHOWN - 9) .. '#' .. string.sub(redis.sha1hex(id), 1, 8)
end

