-- Takes a sale out of service, so that the projector loads it anew: claim, drain, a new epoch.
--
-- KEYS  1 sale, 2 holds, 3 outbox
-- ARGV  1 caller, 2 epoch: that of a sale that was loaded since is a later one, and stays open
-- reply absent | other_log | fence | shut | torn, or moved (of another epoch), or ok

local sale, refusal = usable_sale(ARGV[1], 'epoch')
if not sale then
  return { refusal }
end
if sale[4] ~= ARGV[2] then
  return { 'moved' }
end
redis.call('HSET', KEYS[1], 'state', 'shut')
return { 'ok' }
