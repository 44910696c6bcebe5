-- Returns the pending event of one order of a sale in use.
--
-- KEYS  1 sale, 2 holds, 3 outbox
-- ARGV  1 caller, 2 order_id
-- reply absent | other_log | fence | shut | torn, or
--       ok, epoch, price_cents, currency, then the order's entry if there is one

local sale, refusal = usable_sale(ARGV[1], 'epoch', 'price_cents', 'currency')
if not sale then
  return { refusal }
end
local reply = { 'ok', unpack(sale, 4) }
reply[#reply + 1] = redis.call('HGET', KEYS[3], ARGV[2]) or nil
return reply
