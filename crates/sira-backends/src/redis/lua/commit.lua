-- KEYS: value, index and expiries of each change. ARGV: now, then for each change its record (empty
-- for a removal, a hyphen for a check), want and ttl.
-- Answers 1, or the held heads of all keys where nothing was changed.
local now = tonumber(ARGV[1])
local heads = {}
local admitted = true
for i = 1, #KEYS / 3 do
  local head = head_of(KEYS[i * 3 - 2])
  local record, want = ARGV[i * 3 - 1], ARGV[i * 3]
  heads[i] = head
  if record == '' or record == '-' then
    admitted = admits_removal(head, want, now) and admitted
  else
    admitted = admits(head, record, want, now) and admitted
  end
end
if not admitted then return heads end
-- New keys of an index that follow each other are added to it together.
local added, at = {}, nil
local function flush()
  if #added > 0 then call('ZADD', at, unpack(added)) end
  added = {}
end
for i = 1, #KEYS / 3 do
  local value, index, expiries = KEYS[i * 3 - 2], KEYS[i * 3 - 1], KEYS[i * 3]
  local record = ARGV[i * 3 - 1]
  if record == '' then
    erase(value, index, expiries, heads[i])
  elseif record ~= '-' then
    write_value(value, index, expiries, heads[i], record, ARGV[i * 3 + 1])
    if heads[i] == '' then
      if index ~= at or #added >= 1000 then
        flush()
        at = index
      end
      added[#added + 1] = 0
      added[#added + 1] = member(value, index)
    end
  end
end
flush()
return 1
