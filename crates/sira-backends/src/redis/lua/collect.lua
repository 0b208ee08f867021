-- KEYS: value, index, expiries. ARGV: now.
-- Drops a record that has expired, and what names one that is gone; answers how many records.
local head = head_of(KEYS[1])
if head == '' then
  erase(KEYS[1], KEYS[2], KEYS[3], head)
  return 1
end
if not is_record(head) then return 0 end
if not lives(head, tonumber(ARGV[1])) then
  erase(KEYS[1], KEYS[2], KEYS[3], head)
  return 1
end
local name = member(KEYS[1], KEYS[2])
if expiry(head) == 0 then
  redis.call('ZREM', KEYS[3], name)
else
  redis.call('ZADD', KEYS[3], expiry(head), name)
end
return 0
