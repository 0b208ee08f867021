-- KEYS: value. ARGV: start and end within the body.
-- Answers head and envelope, and the bytes.
local head = head_of(KEYS[1])
if not is_record(head) then return { head, '' } end
local begin = HEAD + struct.unpack('<I4', head, 41)
local high, low = u64(head, 33)
local body = high * 4294967296 + low
local from = math.min(tonumber(ARGV[1]), body)
local to = math.min(tonumber(ARGV[2]), body)
local prefix = redis.call('GETRANGE', KEYS[1], 0, begin - 1)
if from >= to then return { prefix, '' } end
return { prefix, redis.call('GETRANGE', KEYS[1], begin + from, begin + to - 1) }
