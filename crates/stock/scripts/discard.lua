-- Ends the load of a sale that is over: removes the claim, the sale that it has shut, and the loaded keys.
--
-- KEYS  1 sale, 2 holds, 3 outbox, 4 claim, 5 sale, 6 holds, 7 outbox (5 to 7 of the load)
-- ARGV  1 caller, 2 nonce, 3 epoch of the load
-- reply lost (another load has the claim, or the sale is in use in this epoch or a later one) | ok

if not owns_claim(KEYS[4], ARGV[2], ARGV[1]) then
  return { 'lost' }
end
local live = usable_sale(ARGV[1], 'epoch')
if live and tonumber(live[4]) >= tonumber(ARGV[3]) then
  return { 'lost' }
end
redis.call('UNLINK', unpack(KEYS))
return { 'ok' }
