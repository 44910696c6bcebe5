-- Stores a rebuilt entry, if the lock is still the rebuilder's. An invalidation takes the lock away
-- with the entry, so that what was read before it is never stored after it.
-- KEYS[1] entry  KEYS[2] lock  ARGV[1] token  ARGV[2] value  ARGV[3] life in ms
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
return 1
