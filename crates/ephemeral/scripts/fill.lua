-- Stores a rebuilt entry, if the caller still has the lock. An invalidation deletes both the entry and the lock, so
-- that a value that was read before the invalidation is not stored after it.
-- KEYS[1] entry  KEYS[2] lock  ARGV[1] token  ARGV[2] value  ARGV[3] life in ms
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
return 1
