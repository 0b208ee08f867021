-- KEYS: value. ARGV: first byte, byte after the last, or nothing for all.
-- Answers nothing where there is no value; else its size, when it expires in milliseconds since the
-- epoch or 0, its state, and the bytes. All of a value tells its state itself.
local all = redis.call('GET', KEYS[1])
if not all then return {} end
local left, at = redis.call('PTTL', KEYS[1]), 0
if left >= 0 then
  local now = redis.call('TIME')
  at = now[1] * 1000 + math.floor(now[2] / 1000) + left
end
if ARGV[1] == '' then return { #all, at, '', all } end
return { #all, at, plain_state(all), string.sub(all, ARGV[1] + 1, ARGV[2]) }
