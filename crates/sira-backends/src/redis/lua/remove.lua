-- KEYS: value, index, expiries. ARGV: want, now.
-- Answers 1 where a live record was removed, 0 where none was there, or the held head where the
-- condition did not hold.
local head = head_of(KEYS[1])
local now = tonumber(ARGV[2])
if not admits_removal(head, ARGV[1], now) then return head end
local live = head ~= '' and (not is_record(head) or lives(head, now))
erase(KEYS[1], KEYS[2], KEYS[3], head)
return live and 1 or 0
