-- Corrects what a consistency check found wrong. It adds differences to the numbers and never sets them, so that
-- grants between the scan and this call stay counted. The count of corrections makes sure that the result of one
-- check is applied only once, also if the call arrives late or several times.
--
-- KEYS  1 sale, 2 holds, 3 outbox
-- ARGV  1 caller, 2 epoch, 3 from, 4 to (the sale's position has to be between the two, both included),
--       5 number of corrections before this one, 6 units to add to stock, 7 to held, 8 to unsettled,
--       then per hold: field, its text in the scan or -, its text from now on or -
-- reply absent | other_log | fence | shut | torn, or
--       moved (the sale has changed since the scan), short (a number would be below zero), or ok

local FIRST, FIELDS = 9, 3

local sale, refusal = usable_sale(ARGV[1], 'epoch', 'pos', 'stock', 'held', 'unsettled')
if not sale then
  return { refusal }
end
local epoch, pos, stock, held, unsettled = unpack(sale, 4)
local corrections = redis.call('HGET', KEYS[1], 'corrections') or '0'
local in_place = epoch == ARGV[2] and corrections == ARGV[5]
  and tonumber(pos) >= tonumber(ARGV[3]) and tonumber(pos) <= tonumber(ARGV[4])
if not in_place then
  return { 'moved' }
end

local fields = {}
for at = FIRST, #ARGV, FIELDS do
  fields[#fields + 1] = ARGV[at]
end
local holds = #fields > 0 and redis.call('HMGET', KEYS[2], unpack(fields)) or {}
for n = 1, #fields do
  if (holds[n] or '-') ~= ARGV[FIRST + (n - 1) * FIELDS + 1] then
    return { 'moved' }
  end
end

stock, held, unsettled = stock + ARGV[6], held + ARGV[7], unsettled + ARGV[8]
if math.min(stock, held, unsettled) < 0 then
  return { 'short' }
end
for n, field in ipairs(fields) do
  local right = ARGV[FIRST + (n - 1) * FIELDS + 2]
  if right == '-' then
    redis.call('HDEL', KEYS[2], field)
  else
    redis.call('HSET', KEYS[2], field, right)
  end
end
redis.call('HSET', KEYS[1], 'stock', text(stock), 'held', text(held), 'unsettled', text(unsettled))
redis.call('HINCRBY', KEYS[1], 'corrections', 1)
return { 'ok' }
