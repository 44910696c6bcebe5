-- Returns a page of the pending events of a sale in use. A load that has claimed the sale reads them with its nonce,
-- also if the sale is shut or was loaded into another server. An entry that exists during the whole scan is in at
-- least one page, and perhaps in two.
--
-- KEYS  1 sale, 2 holds, 3 outbox, 4 claim
-- ARGV  1 caller, 2 nonce of the claim or - for a sale in use, 3 cursor (0 to begin),
--       4 approximate number of entries to read, 5 for a sale in use: the least age of an entry, in microseconds
-- reply absent | other_log | fence | shut | torn | lost (another load has the claim), or
--       ok, next cursor (0 at the end), epoch, price_cents, currency, then per entry: id, entry

local sale, refusal
if ARGV[2] == '-' then
  sale, refusal = usable_sale(ARGV[1], 'epoch', 'price_cents', 'currency')
elseif owns_claim(KEYS[4], ARGV[2], ARGV[1]) then
  sale = redis.call('HMGET', KEYS[1], 'state', 'load', 'fence', 'epoch', 'price_cents', 'currency')
  refusal = 'absent'
  sale = sale[1] and sale
else
  refusal = 'lost'
end
if not sale then
  return { refusal }
end

local page = redis.call('HSCAN', KEYS[3], ARGV[3], 'COUNT', ARGV[4])
local reply = { 'ok', page[1], unpack(sale, 4) }
-- A load reads entries of any age: another server with another clock may have written them.
local newest_us = ARGV[2] == '-' and now_us() - ARGV[5] or math.huge
local entries = page[2]
for i = 1, #entries, 2 do
  local at_us = string.match(entries[i + 1], '^[ra]|(%d+)|')
  if entries[i] ~= 'load' and tonumber(at_us) <= newest_us then
    reply[#reply + 1] = entries[i]
    reply[#reply + 1] = entries[i + 1]
  end
end
return reply
