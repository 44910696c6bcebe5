-- Removes pending events that the broker has acknowledged.
--
-- KEYS  1 sale, 2 outbox
-- ARGV  1 fence; then per ack: order or event id, epoch
-- reply absent | fence | shut | ok

local sale, refusal = usable_sale(KEYS[1], ARGV[1], 'epoch')
if not sale then
  return { refusal }
end
clear_acked(KEYS[2], sale[3], 2, #ARGV)
return { 'ok' }
