-- Removes pending events that the broker has acknowledged.
--
-- KEYS  1 sale, 2 holds, 3 outbox
-- ARGV  1 caller; then per ack: order or event id, epoch
-- reply absent | other_log | fence | shut | torn | ok

local sale, refusal = usable_sale(ARGV[1], 'epoch')
if not sale then
  return { refusal }
end
clear_acked(KEYS[3], sale[4], 2, #ARGV)
return { 'ok' }
