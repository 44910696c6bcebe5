-- Ends a load of a sale that is over: what the claim has shut, and what was loaded beside it, goes.
--
-- KEYS  1 sale, 2 holds, 3 outbox, 4 claim, 5 sale, 6 holds, 7 outbox (5 to 7 of the load)
-- ARGV  1 caller, 2 nonce, 3 epoch that the load began
-- reply lost (the claim is another's, or a sale of this epoch or a later one is in use) | ok

if not owns_claim(KEYS[4], ARGV[2], ARGV[1]) then
  return { 'lost' }
end
local live = usable_sale(ARGV[1], 'epoch')
if live and tonumber(live[4]) >= tonumber(ARGV[3]) then
  return { 'lost' }
end
redis.call('UNLINK', unpack(KEYS))
return { 'ok' }
