-- Counts an attempt before the code is compared, so that simultaneous guesses cannot exceed the allowed number. The
-- attempt also counts as a failed one of the day; use_code.lua takes it back if the code was right.
-- KEYS[1] code  KEYS[2] failed  ARGV[1] allowed attempts
-- Returns the stored hash and its challenge; nothing if there is no code or no attempt is left.
local code = redis.call('HMGET', KEYS[1], 'hash', 'challenge')
if not code[1] then
  return false
end
if redis.call('HINCRBY', KEYS[1], 'attempts', 1) > tonumber(ARGV[1]) then
  redis.call('DEL', KEYS[1])
  return false
end
if redis.call('INCR', KEYS[2]) == 1 then
  redis.call('EXPIRE', KEYS[2], 86400)
end
return {code[1], code[2] or ''}
