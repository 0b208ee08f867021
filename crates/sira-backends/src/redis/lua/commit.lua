-- KEYS: value, index and expiries of each change. ARGV: now, then for each change its record (empty
-- for a removal), want and ttl.
-- Answers 1, or the held heads of all keys where nothing was changed.
local now = tonumber(ARGV[1])
local heads = {}
local admitted = true
for i = 1, #KEYS / 3 do
  local head = head_of(KEYS[i * 3 - 2])
  local record, want = ARGV[i * 3 - 1], ARGV[i * 3]
  heads[i] = head
  if record == '' then
    admitted = admits_removal(head, want, now) and admitted
  else
    admitted = admits(head, record, want, now) and admitted
  end
end
if not admitted then return heads end
for i = 1, #KEYS / 3 do
  local value, index, expiries = KEYS[i * 3 - 2], KEYS[i * 3 - 1], KEYS[i * 3]
  local record = ARGV[i * 3 - 1]
  if record == '' then
    erase(value, index, expiries, heads[i])
  else
    write(value, index, expiries, heads[i], record, ARGV[i * 3 + 1])
  end
end
return 1
