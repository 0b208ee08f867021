-- KEYS: value. ARGV: bytes, want, expiry in milliseconds since the epoch or 0.
-- Answers 1, or 0 where the value was not written.
if not plain_holds(KEYS[1], ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
if ARGV[3] ~= '0' then redis.call('PEXPIREAT', KEYS[1], ARGV[3]) end
return 1
