-- This text is put before every script when the script is loaded. It says how the keys of one sale are written and
-- read.
--
-- sale hash    stock, held, unsettled (units); epoch, pos, max_quantity; price_cents, currency;
--              opens_us, closes_us, hold_us; sale_token: 1 if orders need one; promise_ms: the promise deadline
--              that its load drained for; state: open | closed (takes no more orders) | shut (it is being loaded
--              again, and nobody may use it). Numbers are decimal text.
--              fence: identifies the server that it was loaded into.
--              log: the id of the Kafka cluster whose log this sale is a view of; missing or empty if it was not
--              known.
--              key:<user id>:<key_hash> -> order_id|quantity|pay_by_us: an earlier order of a user who has ordered
--              again since. A request with its idempotency key is still answered with this order. The field is not
--              in the holds hash, because scans read that one.
--              sold_out_until_us: nobody gets units before. It is written only while there are none, see reserve.lua.
--              load: the nonce of the load that made these three hashes. The holds and the outbox have the same
--              field, so that the scripts notice when one of the three was deleted or evicted alone.
-- holds hash   <user id>      -> order_id|quantity|state|key_hash or -|pay_by_us|reserved_at_us
--                                state: h held, s settled, r released (holds no units; only its idempotency key
--                                is still in use)
--              adj:<event id> -> units|at_us|state
--                                state: t taken, d decided (kept or returned; holds no units). A decided shrink
--                                stays here, so that a late retry of it does not take the units again.
-- outbox hash  <order id>     -> r|reserved_at_us|event_id|user_id|quantity|pay_by_us|key_hash or -|traceparent or -
--              <event id>     -> a|at_us|units
-- tokens hash  <nonce>        -> order_id|key_hash or -: the order that a sale token was used for. It is kept until
--                                the sale closes. A load neither writes nor removes it, and it may be lost.
--
-- An outbox entry contains no epoch: every entry was written under the epoch of the sale hash, which never
-- changes in place (a new epoch comes with a new load).
--
-- Microseconds and units are below 2^53, so doubles represent them exactly. `text` writes all their digits; Lua's
-- own conversion would shorten them.

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

-- ARGV[1] of every script identifies the caller: the fence that it has read from this server and, if it
-- knows it, an @ and the id of the Kafka cluster whose log it serves. Returns the two; the second may be empty.
local function parts_of(caller)
  return string.match(caller, '^([^@]*)@?(.*)$')
end

-- Whether the two logs are different. An unknown log counts as the same.
local function is_of_other_log(log, own_log)
  return log and log ~= '' and own_log ~= '' and log ~= own_log
end

-- Returns `state`, `load`, `fence` and the given fields of the sale in KEYS[1], with its holds in KEYS[2] and its
-- outbox in KEYS[3], if this caller may use the sale. Otherwise returns nil and the reason: absent | other_log
-- (another deployment has loaded it) | fence (it was loaded into another server) | shut | torn (a part of it is
-- missing). With `also_shut`, a sale that is shut is returned too.
local function sale_to_look_at(also_shut, caller, ...)
  local sale = redis.call('HMGET', KEYS[1], 'log', 'state', 'load', 'fence', ...)
  local log = table.remove(sale, 1)
  local fence, own_log = parts_of(caller)
  if not sale[1] then
    return nil, 'absent'
  elseif is_of_other_log(log, own_log) then
    return nil, 'other_log'
  elseif sale[3] ~= fence then
    return nil, 'fence'
  elseif sale[1] == 'shut' and not also_shut then
    return nil, 'shut'
  elseif not is_whole(sale[2], KEYS[2], KEYS[3]) then
    return nil, 'torn'
  end
  return sale
end

local function usable_sale(caller, ...)
  return sale_to_look_at(false, caller, ...)
end

-- Whether the claim is still the one that this load has written.
local function owns_claim(key, nonce, caller)
  return redis.call('GET', key) == nonce .. '|' .. caller
end

-- Returns order id, quantity (text), state, key hash, pay_by, reserved_at.
local function parse_hold(hold)
  return string.match(hold, '^([^|]+)|(%d+)|([hsr])|([^|]+)|(%-?%d+)|(%-?%d+)$')
end

local function hold_text(order_id, quantity, state, key_hash, pay_by_us, reserved_at_us)
  return order_id .. '|' .. quantity .. '|' .. state .. '|' .. key_hash .. '|' .. pay_by_us .. '|' .. reserved_at_us
end

-- The field of the sale hash for the idempotency key of a user's earlier order.
local function key_field(user_id, key_hash)
  return 'key:' .. user_id .. ':' .. key_hash
end

-- Used when a new order replaces a user's hold. Returns a field and its text for the sale hash, so that the
-- idempotency key of the replaced order is still answered with it. Returns nothing if that order has no key.
local function remembered_key(user_id, hold)
  local order_id, quantity, _, key_hash, pay_by_us = parse_hold(hold)
  if key_hash ~= '-' then
    return key_field(user_id, key_hash), order_id .. '|' .. quantity .. '|' .. pay_by_us
  end
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

-- ARGV[first..last] are pairs (id, epoch) of published events. Removes the outbox entries of those that were
-- published in the sale's epoch. A pair of another epoch is ignored: the entry may have been granted again since.
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
