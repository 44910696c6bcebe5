-- Uses a code up: of two calls with the right one only the first gets 1.
-- KEYS[1] code  ARGV[1] the hash that matched
if redis.call('HGET', KEYS[1], 'hash') == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
