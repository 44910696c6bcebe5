-- Put in front of every script when it is loaded: how the keys of one sale are written and read.
--
-- sale hash    stock, held, unsettled (units); epoch, pos, max_quantity; price_cents, currency;
--              opens_us, closes_us, hold_us; sale_token: 1 if orders need one; fence; state: open | closed (takes no more orders) |
--              shut (being loaded anew: nobody may use it). Decimal text.
--              load: the nonce of the load that made these three hashes. holds and outbox name it too, under
--              the same field, so that one of them that was deleted or evicted alone is missed.
-- holds hash   <user id>      -> order_id|quantity|state|key_hash or -|pay_by_us|reserved_at_us
--                                state: h held, s settled, r released (no units; bars only its key)
--              adj:<event id> -> units|at_us|state
--                                state: t taken, d decided (kept or returned; no units). A decided
--                                one stays, so that a late retry of its shrink takes nothing again.
-- outbox hash  <order id>     -> r|reserved_at_us|event_id|user_id|quantity|pay_by_us|key_hash or -|traceparent or -
--              <event id>     -> a|at_us|units
-- tokens hash  <nonce>        -> order_id|key_hash or -: the order that a sale token was used for. Until the sale
--                                closes. No part of a load: it outlives one, and may be lost.
--
-- An outbox entry carries no epoch: every entry was written under the sale's own epoch, which never
-- changes in place (a new epoch comes with a new load).
--
-- Microseconds and units are below 2^53, so doubles are exact; `text` keeps them from being
-- shortened where a number is concatenated.

local function text(number)
  return string.format('%.0f', number)
end

local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Whether the holds and the outbox of this sale are those that were loaded with it.
local function is_whole(load, holds, outbox)
  return load and redis.call('HGET', holds, 'load') == load and redis.call('HGET', outbox, 'load') == load
end

-- The `state`, `load`, `fence` and the given fields of the sale in KEYS[1], with its holds in KEYS[2] and
-- its outbox in KEYS[3], if it may be used by a caller who read `fence` from its server; else nothing, and
-- why: absent | fence | shut | torn (a part of it is missing).
local function usable_sale(fence, ...)
  local sale = redis.call('HMGET', KEYS[1], 'state', 'load', 'fence', ...)
  if not sale[1] then
    return nil, 'absent'
  elseif sale[3] ~= fence then
    return nil, 'fence'
  elseif sale[1] == 'shut' then
    return nil, 'shut'
  elseif not is_whole(sale[2], KEYS[2], KEYS[3]) then
    return nil, 'torn'
  end
  return sale
end

-- Whether the load that wrote this claim may go on.
local function owns_claim(key, nonce, fence)
  return redis.call('GET', key) == nonce .. '|' .. fence
end

-- Returns order id, quantity (text), state, key hash, pay_by, reserved_at.
local function parse_hold(hold)
  return string.match(hold, '^([^|]+)|(%d+)|([hsr])|([^|]+)|(%-?%d+)|(%-?%d+)$')
end

local function hold_text(order_id, quantity, state, key_hash, pay_by_us, reserved_at_us)
  return order_id .. '|' .. quantity .. '|' .. state .. '|' .. key_hash .. '|' .. pay_by_us .. '|' .. reserved_at_us
end

local function reservation_text(reserved_at_us, event_id, user_id, quantity, pay_by_us, key_hash, traceparent)
  return 'r|' .. reserved_at_us .. '|' .. event_id .. '|' .. user_id .. '|' .. quantity .. '|' .. pay_by_us
    .. '|' .. key_hash .. '|' .. traceparent
end

-- Returns units (a number), at (text) and state.
local function parse_shrink(shrink)
  local units, at_us, state = string.match(shrink, '^(%d+)|(%d+)|([td])$')
  return tonumber(units), at_us, state
end

local function shrink_text(units, at_us, state)
  return text(units) .. '|' .. at_us .. '|' .. state
end

local function shrink_entry_text(units, at_us)
  return 'a|' .. at_us .. '|' .. text(units)
end

-- Removes the outbox entries of the pairs (id, epoch) in ARGV[first..last] that were published in
-- the sale's epoch. A pair of another epoch says nothing of an entry that was granted again since.
local function clear_acked(outbox, epoch, first, last)
  local ids = {}
  for i = first, last, 2 do
    if ARGV[i + 1] == epoch then
      ids[#ids + 1] = ARGV[i]
    end
  end
  if #ids > 0 then
    redis.call('HDEL', outbox, unpack(ids))
  end
end
