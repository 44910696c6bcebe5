-- Deletes a code that was right, in both places where it may be stored. Of two calls with the same code only the
-- first one returns 1. The attempt no longer counts as failed.
-- KEYS[1] newest code  KEYS[2] code of the challenge  KEYS[3] failed  ARGV[1] the hash that matched
local used = 0
for _, key in ipairs({KEYS[1], KEYS[2]}) do
  if redis.call('HGET', key, 'hash') == ARGV[1] then
    redis.call('DEL', key)
    used = 1
  end
end
if used == 1 and redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('DECR', KEYS[3])
end
return used
