-- Takes one attempt at a code before anything is compared, so that guesses side by side cannot be
-- more than the attempts there are.
-- KEYS[1] code  ARGV[1] attempts in all
-- Answers the stored hash; nothing when there is no code, or no attempt left.
local hash = redis.call('HGET', KEYS[1], 'hash')
if not hash then
  return false
end
if redis.call('HINCRBY', KEYS[1], 'attempts', 1) > tonumber(ARGV[1]) then
  redis.call('DEL', KEYS[1])
  return false
end
return hash
