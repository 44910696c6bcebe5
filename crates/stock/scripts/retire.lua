-- Removes a sale that is closed or whose window is over, if nothing of it is unsettled or unpublished.
--
-- KEYS  1 sale, 2 holds, 3 outbox
-- ARGV  1 caller, 2 position: every decision below it has to be settled
-- reply absent | other_log | fence | shut | torn |
--       kept (it may still take orders, something is unsettled or unpublished, or it is behind the position) |
--       ok, the sale's position

local sale, refusal = usable_sale(ARGV[1], 'unsettled', 'pos', 'closes_us')
if not sale then
  return { refusal }
end
local unsettled, pos, closes_us = unpack(sale, 4)
local over = sale[1] == 'closed' or now_us() >= tonumber(closes_us)
local at_rest = over and tonumber(unsettled) == 0 and tonumber(pos) >= tonumber(ARGV[2])
-- The outbox always has the field `load`, so one field means that it is empty.
if not at_rest or redis.call('HLEN', KEYS[3]) > 1 then
  return { 'kept' }
end
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
return { 'ok', pos }
