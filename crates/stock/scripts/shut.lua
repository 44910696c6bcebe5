-- Takes a sale out of service. The projector then loads it again: it claims the sale, drains it and begins a new
-- epoch.
--
-- KEYS  1 sale, 2 holds, 3 outbox
-- ARGV  1 caller, 2 epoch: a sale of another epoch was loaded since, and stays open
-- reply absent | other_log | fence | shut | torn, or moved (it has another epoch), or ok

local sale, refusal = usable_sale(ARGV[1], 'epoch')
if not sale then
  return { refusal }
end
if sale[4] ~= ARGV[2] then
  return { 'moved' }
end
redis.call('HSET', KEYS[1], 'state', 'shut')
return { 'ok' }
