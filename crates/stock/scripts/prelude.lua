-- Put in front of every script when it is loaded: how the keys of one sale are written and read.
--
-- sale hash    stock, held, unsettled (units); epoch, pos, max_quantity; price_cents, currency;
--              opens_us, closes_us, hold_us; sale_token: 1 if orders need one; promise_ms: the promise deadline
--              that its load drained for; state: open | closed (takes no more orders) | shut (being loaded
--              anew: nobody may use it). Decimal text. fence: the server that it was loaded into.
--              log: the Kafka cluster whose log it is a view of; none or empty where that was not known.
--              key:<user id>:<key_hash> -> order_id|quantity|pay_by_us: of a user who has ordered again since,
--              an earlier order, whose key goes on answering with it. Not among the holds, which a scan walks.
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

-- ARGV[1] of every script says who calls: the fence that was read from this server, and, where the caller
-- knows it, an @ and the Kafka cluster whose log it serves. Returns the two; the second may be empty.
local function parts_of(caller)
  return string.match(caller, '^([^@]*)@?(.*)$')
end

-- Whether two callers serve different logs, as far as both are known.
local function is_of_other_log(log, own_log)
  return log and log ~= '' and own_log ~= '' and log ~= own_log
end

-- The `state`, `load`, `fence` and the given fields of the sale in KEYS[1], with its holds in KEYS[2] and
-- its outbox in KEYS[3], if it may be used by this caller; else nothing, and why: absent | other_log (another
-- deployment has loaded it) | fence | shut | torn (a part of it is missing). One that is shut may be looked at.
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

-- Whether the load that wrote this claim may go on.
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

-- The field of a key that a user's earlier order was placed with.
local function key_field(user_id, key_hash)
  return 'key:' .. user_id .. ':' .. key_hash
end

-- Where another order takes a hold's place: the field and the text that let its key go on answering with
-- it. Nothing if it has no key.
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
