-- Ends a load: the loaded keys replace the sale's keys, and the sale is open again.
--
-- KEYS  1 sale, 2 holds, 3 outbox, 4 claim, 5 sale, 6 holds, 7 outbox (5 to 7 of the load)
-- ARGV  1 caller, 2 nonce
-- reply lost (another load has the claim, a part of the loaded keys is missing, or the sale is already in use in
--       this epoch or a later one) | ok

if not owns_claim(KEYS[4], ARGV[2], ARGV[1]) then
  return { 'lost' }
end
local loaded_epoch, load = unpack(redis.call('HMGET', KEYS[5], 'epoch', 'load'))
if not is_whole(load, KEYS[6], KEYS[7]) then
  return { 'lost' }
end
local live = usable_sale(ARGV[1], 'epoch')
if live and tonumber(live[4]) >= tonumber(loaded_epoch) then
  return { 'lost' }
end

local fence, log = parts_of(ARGV[1])
redis.call('HSET', KEYS[5], 'fence', fence, 'log', log)
for n = 1, 3 do
  -- UNLINK first, because RENAME would free the old hash in the main thread, which takes long if it is large.
  redis.call('UNLINK', KEYS[n])
  redis.call('RENAME', KEYS[4 + n], KEYS[n])
  redis.call('PERSIST', KEYS[n])
end
redis.call('UNLINK', KEYS[4])
return { 'ok' }
