-- Ends a load: what was loaded takes the place of what was there, and the sale is open again.
--
-- KEYS  1 sale, 2 holds, 3 outbox, 4 claim, 5 sale, 6 holds, 7 outbox (5 to 7 of the load)
-- ARGV  1 fence, 2 nonce
-- reply lost (the claim is another's, or a sale of this epoch or a later one is in use) | ok

if not owns_claim(KEYS[4], ARGV[2], ARGV[1]) then
  return { 'lost' }
end
local loaded_epoch = redis.call('HGET', KEYS[5], 'epoch')
if not loaded_epoch then
  return { 'lost' }
end
local live = usable_sale(KEYS[1], ARGV[1], 'epoch')
if live and tonumber(live[3]) >= tonumber(loaded_epoch) then
  return { 'lost' }
end

redis.call('HSET', KEYS[5], 'fence', ARGV[1])
for n = 1, 3 do
  -- UNLINK first: RENAME would free a large hash in the main thread.
  redis.call('UNLINK', KEYS[n])
  if redis.call('EXISTS', KEYS[4 + n]) == 1 then
    redis.call('RENAME', KEYS[4 + n], KEYS[n])
    redis.call('PERSIST', KEYS[n])
  end
end
redis.call('UNLINK', KEYS[4])
return { 'ok' }
