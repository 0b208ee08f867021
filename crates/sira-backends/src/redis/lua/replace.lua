-- What most puts are, before anything else is looked at: a record that never expires, without a
-- condition, over an older one that does not expire either. KEYS and ARGV as in put.lua.
if ARGV[2] == 'a' and ARGV[4] == '0' then
  local sub, byte, record = string.sub, string.byte, ARGV[1]
  local held = redis.call('GETRANGE', KEYS[1], 0, 47)
  local never = '\0\0\0\0\0\0\0\0'
  if #held == 48 and sub(held, 1, 5) == 'SREC\1'
    and sub(held, 17, 24) == never and sub(record, 17, 24) == never then
    local a, b, c, d, e, f, g, h = byte(held, 9, 16)
    local i, j, k, l, m, n, o, p = byte(record, 9, 16)
    local held_high, high = ((h * 256 + g) * 256 + f) * 256 + e, ((p * 256 + o) * 256 + n) * 256 + m
    if high > held_high or (high == held_high
      and ((l * 256 + k) * 256 + j) * 256 + i > ((d * 256 + c) * 256 + b) * 256 + a) then
      redis.call('SET', KEYS[1], record)
      return 1
    end
    return held
  end
end
