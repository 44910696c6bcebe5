-- Takes one attempt at a code before anything is compared, so that guesses side by side cannot be
-- more than the attempts there are. It counts among the day's failed ones until it was right.
-- KEYS[1] code  KEYS[2] failed  ARGV[1] attempts in all
-- Answers the stored hash and its challenge; nothing when there is no code, or no attempt left.
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
