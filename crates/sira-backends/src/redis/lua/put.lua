-- KEYS: value, index, expiries. ARGV: record, want, now, ttl.
-- Answers 1, or the held head where the record was not written.
local head = head_of(KEYS[1])
if not admits(head, ARGV[1], ARGV[2], tonumber(ARGV[3])) then return head end
write_value(KEYS[1], KEYS[2], KEYS[3], head, ARGV[1], ARGV[4])
if head == '' then call('ZADD', KEYS[2], 0, member(KEYS[1], KEYS[2])) end
return 1
