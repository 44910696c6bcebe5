-- Takes units out of a sale for a shrink, only once for each event id. Its event is put into the outbox, like the
-- event of a grant.
--
-- KEYS  1 sale, 2 holds, 3 outbox
-- ARGV  1 caller, 2 event_id, 3 units
-- reply absent | other_log | fence | shut | torn, or refused, free units, or taken, epoch, units, at_us

local sale, refusal = usable_sale(ARGV[1], 'epoch', 'stock', 'unsettled')
if not sale then
  return { refusal }
end
local epoch, stock, unsettled = unpack(sale, 4)
local event_id, wanted = ARGV[2], tonumber(ARGV[3])

local field = 'adj:' .. event_id
local before = redis.call('HGET', KEYS[2], field)
if before then
  local units, at_us = parse_shrink(before)
  return { 'taken', epoch, text(units), at_us }
end
if tonumber(stock) < wanted then
  return { 'refused', stock }
end
local at_us = text(now_us())
redis.call('HSET', KEYS[2], field, shrink_text(wanted, at_us, 't'))
redis.call('HSET', KEYS[3], event_id, shrink_entry_text(wanted, at_us))
redis.call('HSET', KEYS[1], 'stock', text(stock - wanted), 'unsettled', text(unsettled + wanted))
return { 'taken', epoch, text(wanted), at_us }
