-- In which epoch this server serves the sale and accepts writes. A master that is cut off from its replicas goes on
-- answering reads, but refuses this write (min-replicas-to-write).
--
-- KEYS  1 sale, 2 holds, 3 outbox
-- ARGV  1 caller
-- reply absent | other_log | fence | shut | torn, or ok, epoch

local sale, refusal = usable_sale(ARGV[1], 'epoch')
if not sale then
  return { refusal }
end
redis.call('HSET', KEYS[1], 'epoch', sale[4])
return { 'ok', sale[4] }
