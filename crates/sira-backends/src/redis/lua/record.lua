-- What the scripts share: the head of a stored record, as docs/formats/envelope.md draws it, read
-- from the server's side. Numbers of 64 bits are compared in two halves, for Lua has doubles only.

local HEAD = 48

local function u64(bytes, at)
  local low, high = struct.unpack('<I4I4', bytes, at)
  return high, low
end

local function head_of(key)
  return redis.call('GETRANGE', key, 0, HEAD - 1)
end

local function is_record(head)
  return #head == HEAD and string.sub(head, 1, 5) == 'SREC\1'
end

-- Milliseconds since the epoch, 0 for never.
local function expiry(head)
  local high, low = u64(head, 17)
  return high * 4294967296 + low
end

local function lives(head, now)
  local at = expiry(head)
  return at == 0 or now < at
end

local function newer(record, head)
  local high, low = u64(record, 9)
  local held_high, held_low = u64(head, 9)
  return high > held_high or (high == held_high and low > held_low)
end

-- want: a(ny), n(one), p(resent), m(atch) and x (no match) with the version's 8 bytes.
local function holds(head, want, now)
  local kind = string.sub(want, 1, 1)
  if kind == 'a' then return true end
  local live = head ~= '' and lives(head, now)
  if kind == 'n' then return not live end
  if kind == 'p' then return live end
  local same = live and string.sub(head, 9, 16) == string.sub(want, 2, 9)
  if kind == 'm' then return same end
  return not same
end

-- Whether a record can be written over what is held.
local function admits(head, record, want, now)
  if head == '' then return holds(head, want, now) end
  return is_record(head) and holds(head, want, now) and newer(record, head)
end

local function admits_removal(head, want, now)
  if want == 'a' then return true end
  return (head == '' or is_record(head)) and holds(head, want, now)
end

-- A key of the index is what follows the index's name and a slash in the name of the value.
local function member(value, index)
  return string.sub(value, #index + 2)
end

local function write(value, index, expiries, head, record, ttl)
  if ttl == '0' then
    redis.call('SET', value, record)
  else
    redis.call('SET', value, record, 'PX', ttl)
  end
  local name = member(value, index)
  if head == '' then redis.call('ZADD', index, 0, name) end
  local at = expiry(record)
  if at ~= 0 then
    redis.call('ZADD', expiries, at, name)
  elseif head ~= '' and expiry(head) ~= 0 then
    redis.call('ZREM', expiries, name)
  end
end

local function erase(value, index, expiries, head)
  local name = member(value, index)
  if head ~= '' then redis.call('UNLINK', value) end
  redis.call('ZREM', index, name)
  redis.call('ZREM', expiries, name)
end

-- What stands for a plain value: the first 48 bits of its hash, in hexadecimal.
local function plain_state(bytes)
  return string.sub(redis.sha1hex(bytes), 1, 12)
end

-- want: as above, with the state in the place of the version.
local function plain_holds(key, want)
  local kind = string.sub(want, 1, 1)
  if kind == 'a' then return true end
  if kind == 'n' or kind == 'p' then
    return (redis.call('EXISTS', key) == 1) == (kind == 'p')
  end
  local held = redis.call('GET', key)
  local same = held and plain_state(held) == string.sub(want, 2)
  if kind == 'm' then return same end
  return not same
end
