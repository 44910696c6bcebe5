-- Returns the numbers and the terms of a sale, and a page of its holds, all of one moment. A hold that exists during
-- the whole scan is in at least one page, and perhaps in two. A sale with few holds fits into one page.
--
-- KEYS  1 sale, 2 holds, 3 outbox
-- ARGV  1 caller, 2 cursor (0 to begin), 3 approximate number of holds to read, 4 1 if the sale may be shut
-- reply absent | other_log | fence | shut | torn, or
--       ok, next cursor (0 at the end), load, stock, held, unsettled, epoch, pos, open | closed, max_quantity,
--       price_cents, currency, opens_us, closes_us, hold_us, 1 if orders need a sale token, number of
--       corrections so far, now_us,
--       then per field of the holds hash: its name, its text, 1 if its event is pending, else 0

local sale, refusal = sale_to_look_at(ARGV[4] == '1', ARGV[1], 'stock', 'held', 'unsettled', 'epoch', 'pos', 'state',
  'max_quantity', 'price_cents', 'currency', 'opens_us', 'closes_us', 'hold_us', 'sale_token')
if not sale then
  return { refusal }
end

local page = redis.call('HSCAN', KEYS[2], ARGV[2], 'COUNT', ARGV[3])
local fields = page[2]
local ids, named = {}, {} -- ids to look up in the outbox; by index of a field, the index of its id
for i = 1, #fields, 2 do
  local id, _, state = parse_hold(fields[i + 1])
  if state ~= 'h' then
    id = string.match(fields[i], '^adj:(.+)$')
  end
  if id then
    ids[#ids + 1] = id
    named[i] = #ids
  end
end
local entries = #ids > 0 and redis.call('HMGET', KEYS[3], unpack(ids)) or {}

-- A sale that was loaded before there were sale tokens has no such field.
sale[#sale] = sale[#sale] or '0'
local reply = { 'ok', page[1], sale[2], unpack(sale, 4) }
reply[#reply + 1] = redis.call('HGET', KEYS[1], 'corrections') or '0'
reply[#reply + 1] = text(now_us())
for i = 1, #fields, 2 do
  if fields[i] ~= 'load' then
    reply[#reply + 1] = fields[i]
    reply[#reply + 1] = fields[i + 1]
    reply[#reply + 1] = named[i] and entries[named[i]] and '1' or '0'
  end
end
return reply
