-- Decides up to 64 requests for one sale, in order. The units that one request gets are gone for the next one.
-- A grant takes the stock and writes the hold and the pending event in this one step.
--
-- KEYS  1 sale, 2 holds, 3 outbox, 4 tokens if any request has one
-- ARGV  1 caller
--       2 first, or again: the same requests were sent before, and the caller does not know their results
--       3 number of acks; then per ack: order or event id, epoch. Their outbox entries are removed first.
--       then per request: order_id, event_id, user_id, quantity, key_hash or -, traceparent or -,
--       the nonce of a valid sale token of this user, or -
-- reply absent | other_log | fence | shut | torn, or
--       ok, epoch, price_cents, currency, now_us, pay_by_us, opens_us, max_quantity, promise_ms (0: not
--       known), the lease on sold-out or -, then per request
--       granted                                    held since now_us, to be paid by pay_by_us
--       again, outbox entry                        granted by an earlier call with this order id
--       superseded                                 sent before, and the user has placed another order since
--       repeated, order_id, state, pay_by_us       the same key or order id was granted before; the user may have
--                                                  placed other orders since
--       already-ordered, order_id
--       any other refusal by its name in crates/domain/src/refusal.rs
--
-- A lease on sold-out is a promise that no call takes units for a buyer for some time. Until then the caller may answer
-- sold-out itself to buyers without a hold. It is given while no unit is left, to calls of more than one request, which
-- come where many buyers ask at once, and to any call while another lease lasts. As text:
-- microseconds|1 if orders need a sale token, else 0|version of the holds: while it is the same, so are the buyers who
-- have one.

local REQUEST_FIELDS = 7
local LONGEST_LEASE_US = 40000

local sale, refusal = usable_sale(ARGV[1], 'epoch', 'stock', 'held', 'unsettled',
  'price_cents', 'currency', 'max_quantity', 'opens_us', 'closes_us', 'hold_us',
  'sale_token', 'promise_ms', 'sold_out_until_us')
if not sale then
  return { refusal }
end
local epoch, stock, held, unsettled, price_cents, currency, max_quantity, opens_us, closes_us, hold_us,
  sale_token, promise_ms, sold_out_until_us = unpack(sale, 4)
local opens_at, closes_at, units_limit = tonumber(opens_us), tonumber(closes_us), tonumber(max_quantity)
local sold_out_until = tonumber(sold_out_until_us or 0)
-- No longer than what the next load waits before it opens.
local lease_us = math.min(LONGEST_LEASE_US, 1000 * (promise_ms or 0))
local now = now_us()
local now_text, pay_by_text = text(now), text(now + hold_us)

local first_request = 4 + 2 * ARGV[3]
clear_acked(KEYS[3], epoch, 4, first_request - 1)

local users = {}
for at = first_request, #ARGV, REQUEST_FIELDS do
  users[#users + 1] = ARGV[at + 2]
end
-- A sale that was loaded by an earlier version has no such field.
local reply = {
  'ok', epoch, price_cents, currency, now_text, pay_by_text, opens_us, max_quantity, promise_ms or '0', '-',
}
local LEASE_AT = #reply
if #users == 0 then
  return reply
end
local holds = redis.call('HMGET', KEYS[2], unpack(users))

local granted_units = 0
local new_hold, new_entry = {}, {} -- by user id, by order id
local new_holds, new_entries = {}, {} -- the same as arguments of HSET
local new_keys = {} -- by field: earlier orders that this call replaces
local new_keys_to_set = {} -- the same as arguments of HSET
local used_here = {} -- by nonce: what its sale token was used for in this call
local new_tokens = {} -- the same as arguments of HSET

-- The answer to a request with the idempotency key of an order that a newer one has replaced. Nothing if there is
-- no such order.
local function answer_from_key(user_id, quantity, key_hash)
  local field = key_field(user_id, key_hash)
  local earlier = new_keys[field] or redis.call('HGET', KEYS[1], field)
  if not earlier then
    return nil
  end
  local order_id, ordered, pay_by_us = string.match(earlier, '^([^|]+)|(%d+)|(%-?%d+)$')
  if ordered ~= quantity then
    return { 'idempotency-key-reused' }
  end
  return { 'repeated', order_id, 'r', pay_by_us }
end

-- The answer to a request that follows from the user's earlier orders. Nothing if they do not prevent a new one.
local function answer_from_hold(hold, order_id, user_id, quantity, key_hash)
  local held_order, held_quantity, state, held_key, pay_by_us = parse_hold(hold)
  local same_order = held_order == order_id
  if same_order and state == 'h' then
    local entry = new_entry[order_id] or redis.call('HGET', KEYS[3], order_id)
    if entry then
      return { 'again', entry }
    end
  end
  local same_key = key_hash ~= '-' and key_hash == held_key
  if same_key and held_quantity ~= quantity then
    return { 'idempotency-key-reused' }
  elseif same_key or same_order then
    return { 'repeated', held_order, state, pay_by_us }
  end
  local by_key = key_hash ~= '-' and answer_from_key(user_id, quantity, key_hash)
  if by_key then
    return by_key
  elseif state ~= 'r' then
    return { 'already-ordered', held_order }
  elseif ARGV[2] == 'again' then
    -- The request was sent before, perhaps a long time ago. It may have been granted then, decided and released,
    -- and the hold may be of a later order. If it were granted again, its units would be lost: the log decides on
    -- an order id only once, so no decision would ever return them.
    return { 'superseded' }
  end
end

-- Why this sale token cannot be used for this order. Nothing if it can, or if the sale needs none. A grant writes
-- hold and token in one step. If the token is used and there is no hold, Redis has lost the hold, and the same order
-- may be placed again. If there is a hold that did not answer the request, it is of an order after the token's.
local function refusal_of_token(nonce, order_id, key_hash, hold)
  if sale_token ~= '1' then
    return nil
  elseif nonce == '-' then
    return 'sale-token-required'
  end
  local used_for = used_here[nonce] or redis.call('HGET', KEYS[4], nonce)
  if not used_for then
    return nil
  end
  local used_order, used_key = string.match(used_for, '^([^|]+)|([^|]+)$')
  local same = used_order == order_id or (key_hash ~= '-' and key_hash == used_key)
  if hold or not same then
    return 'sale-token-used'
  end
end

-- Why the sale takes no orders now; nothing if it does.
local function refusal_of_window()
  if sale[1] == 'closed' or now >= closes_at then
    return 'ended'
  elseif now < opens_at then
    return 'not-started'
  end
end

-- The microseconds that are left of the last lease on sold-out. There are none if the clock was set back: otherwise
-- nobody would get units until it is as late again.
local function lease_left()
  local left = sold_out_until - now
  return left > 0 and left <= LONGEST_LEASE_US and left or 0
end

-- Why the sale does not give these units; nothing if it does.
local function refusal_of_units(units)
  if units < 1 or units > units_limit then
    return 'quantity-limit'
  elseif stock - granted_units < units or lease_left() > 0 then
    return 'sold-out'
  end
end

-- The lease on sold-out, if one can be given. It is extended when half of it is over, so that a crowd costs few writes.
-- A server that refuses writes gives none: another one may be granting units.
local function lease_on_sold_out()
  local many_ask = #users > 1 or lease_left() > 0
  if lease_us == 0 or not many_ask or stock - granted_units > 0 or refusal_of_window() then
    return nil
  end
  if lease_left() < lease_us / 2 then
    sold_out_until = math.min(now + lease_us, closes_at)
    local written = redis.pcall('HSET', KEYS[1], 'sold_out_until_us', text(sold_out_until))
    if type(written) == 'table' and written.err then
      return nil
    end
  end
  local corrections = redis.call('HGET', KEYS[1], 'corrections') or '0'
  local holders = sale[2] .. ':' .. text(redis.call('HLEN', KEYS[2])) .. ':' .. corrections
  return text(lease_left()) .. '|' .. (sale_token or '0') .. '|' .. holders
end

for n = 1, #users do
  local at = first_request + (n - 1) * REQUEST_FIELDS
  local order_id, event_id, user_id, quantity, key_hash, traceparent, nonce =
    unpack(ARGV, at, at + REQUEST_FIELDS - 1)
  local hold = new_hold[user_id] or holds[n]
  local answer = hold and answer_from_hold(hold, order_id, user_id, quantity, key_hash)
  if answer then
    for _, field in ipairs(answer) do
      reply[#reply + 1] = field
    end
  else
    local units = tonumber(quantity)
    local refused = refusal_of_window() or refusal_of_token(nonce, order_id, key_hash, hold)
      or refusal_of_units(units)
    if not refused then
      granted_units = granted_units + units
      local key, earlier = nil, nil
      if hold then
        key, earlier = remembered_key(user_id, hold)
      end
      if key then
        new_keys[key] = earlier
        new_keys_to_set[#new_keys_to_set + 1] = key
        new_keys_to_set[#new_keys_to_set + 1] = earlier
      end
      new_hold[user_id] = hold_text(order_id, quantity, 'h', key_hash, pay_by_text, now_text)
      new_entry[order_id] =
        reservation_text(now_text, event_id, user_id, quantity, pay_by_text, key_hash, traceparent)
      new_holds[#new_holds + 1] = user_id
      new_holds[#new_holds + 1] = new_hold[user_id]
      new_entries[#new_entries + 1] = order_id
      new_entries[#new_entries + 1] = new_entry[order_id]
      if sale_token == '1' then
        used_here[nonce] = order_id .. '|' .. key_hash
        new_tokens[#new_tokens + 1] = nonce
        new_tokens[#new_tokens + 1] = used_here[nonce]
      end
    end
    reply[#reply + 1] = refused or 'granted'
  end
end

if granted_units > 0 then
  redis.call('HSET', KEYS[2], unpack(new_holds))
  redis.call('HSET', KEYS[3], unpack(new_entries))
  if #new_keys_to_set > 0 then
    redis.call('HSET', KEYS[1], unpack(new_keys_to_set))
  end
  redis.call('HSET', KEYS[1], 'stock', text(stock - granted_units), 'held', text(held + granted_units),
    'unsettled', text(unsettled + granted_units))
end
if #new_tokens > 0 then
  redis.call('HSET', KEYS[4], unpack(new_tokens))
  -- Afterwards nobody can order with any of them.
  redis.call('PEXPIREAT', KEYS[4], text(math.ceil(closes_at / 1000)))
end
reply[LEASE_AT] = lease_on_sold_out() or '-'
return reply
