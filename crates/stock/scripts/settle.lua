-- Applies the log's decisions, in log order. A decision below the sale's position was applied before and is
-- skipped, so a repeated call changes nothing, also when its decisions come in other batches.
--
-- KEYS  1 sale, 2 holds, 3 outbox
-- ARGV  1 caller, 2 epoch in PostgreSQL, 3 from, 4 to: the call contains every decision of the sale from offset
--       `from` up to, but without, `to` that is not settled yet,
--       then per decision: kind, offset, order or event id or -, user_id or -, units or -,
--       key_hash or -, pay_by_us or -
--         confirm   the order is accepted      release  it is rejected, or was accepted and has ended
--         kept      the shrink is accepted     returned it is rejected
--         restock   adds units                 close    the sale takes no more orders
-- reply absent | other_log | fence | shut | torn | epoch (the sale is of an earlier one), or
--       gap, pos (decisions from pos to `from` are missing), or ok, pos

local FIRST, FIELDS = 5, 7

local sale, refusal = usable_sale(ARGV[1], 'epoch', 'pos', 'stock', 'held', 'unsettled', 'hold_us')
if not sale then
  return { refusal }
end
if tonumber(sale[4]) < tonumber(ARGV[2]) then
  return { 'epoch' }
end
local pos, stock, held, unsettled, hold_us =
  tonumber(sale[5]), tonumber(sale[6]), tonumber(sale[7]), tonumber(sale[8]), tonumber(sale[9])
if pos < tonumber(ARGV[3]) then
  return { 'gap', text(pos) }
end

-- The field of the holds hash that a decision is about, if it is about one.
local function field_of(at)
  if ARGV[at + 3] ~= '-' then
    return ARGV[at + 3]
  elseif ARGV[at + 2] ~= '-' then
    return 'adj:' .. ARGV[at + 2]
  end
end

local fields, hold_of = {}, {}
for at = FIRST, #ARGV, FIELDS do
  fields[#fields + 1] = field_of(at)
end
if #fields > 0 then
  local holds = redis.call('HMGET', KEYS[2], unpack(fields))
  for n, field in ipairs(fields) do
    hold_of[field] = holds[n]
  end
end

local state = sale[1]
local changed, published = {}, {}
local keys_to_set = {} -- fields and texts of the keys of replaced orders

-- Adds (+1) or removes (-1) a live hold with its units in the sale's numbers.
local function count(sign, units, hold_state)
  stock, held = stock - sign * units, held + sign * units
  if hold_state == 'h' then
    unsettled = unsettled + sign * units
  end
end

local apply = {}

function apply.confirm(field, order_id, units, key_hash, pay_by_us)
  local held_order, held_units, hold_state, held_key, held_pay_by, reserved_at
  if hold_of[field] then
    held_order, held_units, hold_state, held_key, held_pay_by, reserved_at = parse_hold(hold_of[field])
  end
  if hold_state and hold_state ~= 'r' then
    count(-1, tonumber(held_units), hold_state)
  end
  if held_order == order_id then
    count(1, tonumber(held_units), 's')
    hold_of[field] = hold_text(order_id, held_units, 's', held_key, held_pay_by, reserved_at)
  else
    -- The order is in the log and not in this server, which has lost it. So its units have to be taken now.
    -- reserved_at is computed from pay_by, which is reserved_at + hold_us.
    local key, earlier = nil, nil
    if held_order then
      key, earlier = remembered_key(field, hold_of[field])
    end
    if key and held_key ~= key_hash then
      keys_to_set[#keys_to_set + 1] = key
      keys_to_set[#keys_to_set + 1] = earlier
    end
    count(1, units, 's')
    hold_of[field] = hold_text(order_id, text(units), 's', key_hash, pay_by_us, text(pay_by_us - hold_us))
  end
  changed[field] = true
end

function apply.release(field, order_id)
  if not hold_of[field] then
    return
  end
  local held_order, units, hold_state, key_hash, pay_by_us, reserved_at = parse_hold(hold_of[field])
  if held_order ~= order_id or hold_state == 'r' then
    return
  end
  count(-1, tonumber(units), hold_state)
  hold_of[field] = hold_text(order_id, units, 'r', key_hash, pay_by_us, reserved_at)
  changed[field] = true
end

function apply.kept(field, _, units)
  local taken_units, at_us, hold_state
  if hold_of[field] then
    taken_units, at_us, hold_state = parse_shrink(hold_of[field])
  end
  if hold_state == 't' then
    unsettled = unsettled - taken_units
  else
    stock = stock - units
  end
  hold_of[field] = shrink_text(units, at_us or text(now_us()), 'd')
  changed[field] = true
end

function apply.returned(field, _, units)
  local taken_units, at_us, hold_state
  if hold_of[field] then
    taken_units, at_us, hold_state = parse_shrink(hold_of[field])
  end
  if hold_state == 't' then
    stock, unsettled = stock + taken_units, unsettled - taken_units
  end
  hold_of[field] = shrink_text(taken_units or units, at_us or text(now_us()), 'd')
  changed[field] = true
end

function apply.restock(_, _, units)
  stock = stock + units
end

function apply.close()
  state = 'closed'
end

for at = FIRST, #ARGV, FIELDS do
  local kind, offset, id, _, units, key_hash, pay_by_us = unpack(ARGV, at, at + FIELDS - 1)
  offset = tonumber(offset)
  if offset >= pos then
    apply[kind](field_of(at), id, tonumber(units), key_hash, pay_by_us)
    if id ~= '-' then
      published[#published + 1] = id
    end
    pos = offset + 1
  end
end
pos = math.max(pos, tonumber(ARGV[4]))

local pairs_to_set = {}
for field in pairs(changed) do
  pairs_to_set[#pairs_to_set + 1] = field
  pairs_to_set[#pairs_to_set + 1] = hold_of[field]
end
if #pairs_to_set > 0 then
  redis.call('HSET', KEYS[2], unpack(pairs_to_set))
end
if #published > 0 then
  redis.call('HDEL', KEYS[3], unpack(published))
end
if #keys_to_set > 0 then
  redis.call('HSET', KEYS[1], unpack(keys_to_set))
end
redis.call('HSET', KEYS[1], 'stock', text(stock), 'held', text(held), 'unsettled', text(unsettled),
  'state', state, 'pos', text(pos))
return { 'ok', text(pos) }
