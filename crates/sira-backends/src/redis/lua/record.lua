-- What the scripts share: the head of a stored record, as docs/formats/envelope.md draws it, read
-- from the server's side. Numbers of 64 bits are compared in two halves, for Lua has doubles only.

local HEAD = 48
local NEVER = '\0\0\0\0\0\0\0\0'
local byte, call, sub = string.byte, redis.call, string.sub

local function u64(bytes, at)
  local a, b, c, d, e, f, g, h = byte(bytes, at, at + 7)
  return ((h * 256 + g) * 256 + f) * 256 + e, ((d * 256 + c) * 256 + b) * 256 + a
end

local function head_of(key)
  return call('GETRANGE', key, 0, HEAD - 1)
end

local function is_record(head)
  return #head == HEAD and sub(head, 1, 5) == 'SREC\1'
end

-- Milliseconds since the epoch, 0 for never.
local function expiry(head)
  if sub(head, 17, 24) == NEVER then return 0 end
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
  if want == 'a' then return true end
  local kind = sub(want, 1, 1)
  local live = head ~= '' and lives(head, now)
  if kind == 'n' then return not live end
  if kind == 'p' then return live end
  local same = live and sub(head, 9, 16) == sub(want, 2, 9)
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
  return sub(value, #index + 2)
end

-- Writes all but the index.
local function write_value(value, index, expiries, head, record, ttl)
  if ttl == '0' then
    call('SET', value, record)
  else
    call('SET', value, record, 'PX', ttl)
  end
  local at = expiry(record)
  if at ~= 0 then
    call('ZADD', expiries, at, member(value, index))
  elseif head ~= '' and expiry(head) ~= 0 then
    call('ZREM', expiries, member(value, index))
  end
end

local function erase(value, index, expiries, head)
  local name = member(value, index)
  if head ~= '' then call('UNLINK', value) end
  call('ZREM', index, name)
  call('ZREM', expiries, name)
end

-- What stands for a plain value: the first 48 bits of its hash, in hexadecimal.
local function plain_state(bytes)
  return sub(redis.sha1hex(bytes), 1, 12)
end

-- want: as above, with the state in the place of the version.
local function plain_holds(key, want)
  local kind = sub(want, 1, 1)
  if kind == 'a' then return true end
  if kind == 'n' or kind == 'p' then
    return (call('EXISTS', key) == 1) == (kind == 'p')
  end
  local held = call('GET', key)
  local same = held and plain_state(held) == sub(want, 2)
  if kind == 'm' then return same end
  return not same
end
