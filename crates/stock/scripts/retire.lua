-- Removes a closed sale on which nothing is under way.
--
-- KEYS  1 sale, 2 holds, 3 outbox
-- ARGV  1 fence, 2 position: every decision below it has to be settled
-- reply absent | fence | shut | torn | kept (open, unsettled, unpublished, or behind the position) | ok

local sale, refusal = usable_sale(ARGV[1], 'unsettled', 'pos')
if not sale then
  return { refusal }
end
local at_rest = sale[1] == 'closed' and tonumber(sale[4]) == 0 and tonumber(sale[5]) >= tonumber(ARGV[2])
-- One field of the outbox names its load.
if not at_rest or redis.call('HLEN', KEYS[3]) > 1 then
  return { 'kept' }
end
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
return { 'ok' }
