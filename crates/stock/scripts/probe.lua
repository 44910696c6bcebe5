-- Returns the numbers of a sale and one user's hold. The cost does not depend on the number of holds.
--
-- KEYS  1 sale, 2 holds, 3 outbox
-- ARGV  1 caller, 2 user_id or -
-- reply absent, or other_log | fence | shut | torn, epoch, or
--       ok, stock, held, unsettled, epoch, pos, open | closed, opens_us, closes_us, max_quantity,
--       then the user's hold if there is one

local sale, refusal = usable_sale(ARGV[1], 'stock', 'held', 'unsettled', 'epoch', 'pos', 'state',
  'opens_us', 'closes_us', 'max_quantity')
if not sale then
  return { refusal, redis.call('HGET', KEYS[1], 'epoch') or nil }
end
local reply = { 'ok', unpack(sale, 4) }
if ARGV[2] ~= '-' then
  reply[#reply + 1] = redis.call('HGET', KEYS[2], ARGV[2]) or nil
end
return reply
