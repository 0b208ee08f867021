-- KEYS: value. ARGV: want.
-- Answers how many values were removed, or -1 where the condition did not hold.
if not plain_holds(KEYS[1], ARGV[1]) then return -1 end
return redis.call('UNLINK', KEYS[1])
