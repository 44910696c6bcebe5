-- Writes a part of a load into the load's own keys, whose names contain its nonce, as long as the load has the
-- claim. Every kind of chunk may be repeated.
--
-- KEYS  1 claim, 2 sale, 3 holds, 4 outbox (2 to 4 of the load)
-- ARGV  1 caller, 2 nonce, 3 seconds until an abandoned load is forgotten, 4 kind of chunk, then
--       renew    nothing; only renews the claim, before the load begins
--       begin    pairs of a field of the sale hash and its value; starts the load again from empty keys
--       holds    per order: user_id, order_id, quantity, s | r | k, key_hash or -, pay_by_us, reserved_at_us.
--                s and r: the user's hold, settled or released. The sale's stock in `begin` is already without
--                the units of settled ones. k: an earlier order of the user, of which only the key is kept.
--       shrinks  per shrink that the log has decided: event_id, units, at_us
--       regrant  per pending event of the sale before this load: order or event id, reserved_at_us,
--                event_id or -, user_id or -, units, pay_by_us or -, key_hash or -, traceparent or -
--                (user_id -: a shrink). It is granted again under the load's epoch, if there is enough
--                stock and its user has no live hold.
-- reply lost (another load has the claim, or this load did not begin) | ok

local FIRST = 5

if not owns_claim(KEYS[1], ARGV[2], ARGV[1]) then
  return { 'lost' }
end

local load = {}

function load.renew()
end

function load.begin()
  redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4])
  for n = 2, 4 do
    redis.call('HSET', KEYS[n], 'load', ARGV[2])
  end
  redis.call('HSET', KEYS[2], 'held', '0', 'unsettled', '0', unpack(ARGV, FIRST))
end

local function live_units(hold)
  if not hold then
    return 0
  end
  local _, units, state = parse_hold(hold)
  return state == 'r' and 0 or tonumber(units)
end

function load.holds()
  local FIELDS = 7
  local users, hold_pairs, key_pairs, added = {}, {}, {}, 0
  for at = FIRST, #ARGV, FIELDS do
    local user_id, order_id, quantity, state, key_hash, pay_by_us = unpack(ARGV, at, at + 5)
    if state == 'k' then
      key_pairs[#key_pairs + 1] = key_field(user_id, key_hash)
      key_pairs[#key_pairs + 1] = order_id .. '|' .. quantity .. '|' .. pay_by_us
    else
      users[#users + 1] = user_id
      hold_pairs[#hold_pairs + 1] = user_id
      hold_pairs[#hold_pairs + 1] = hold_text(unpack(ARGV, at + 1, at + FIELDS - 1))
      added = added + live_units(hold_pairs[#hold_pairs])
    end
  end
  if #key_pairs > 0 then
    redis.call('HSET', KEYS[2], unpack(key_pairs))
  end
  if #users == 0 then
    return
  end
  for _, before in ipairs(redis.call('HMGET', KEYS[3], unpack(users))) do
    added = added - live_units(before)
  end
  redis.call('HSET', KEYS[3], unpack(hold_pairs))
  redis.call('HINCRBY', KEYS[2], 'held', text(added))
end

function load.shrinks()
  local FIELDS = 3
  for at = FIRST, #ARGV, FIELDS do
    local event_id, units, at_us = unpack(ARGV, at, at + 2)
    redis.call('HSET', KEYS[3], 'adj:' .. event_id, shrink_text(units, at_us, 'd'))
  end
end

local function regrant_reservation(id, at_us, event_id, user_id, units, pay_by_us, key_hash, traceparent)
  local before = redis.call('HGET', KEYS[3], user_id)
  if live_units(before) > 0 then
    return false
  end
  if before then
    local key, earlier = remembered_key(user_id, before)
    if key then
      redis.call('HSET', KEYS[2], key, earlier)
    end
  end
  redis.call('HSET', KEYS[3], user_id, hold_text(id, units, 'h', key_hash, pay_by_us, at_us))
  redis.call('HSET', KEYS[4], id,
    reservation_text(at_us, event_id, user_id, units, pay_by_us, key_hash, traceparent))
  redis.call('HINCRBY', KEYS[2], 'held', units)
  return true
end

local function regrant_shrink(id, at_us, units)
  if redis.call('HSETNX', KEYS[3], 'adj:' .. id, shrink_text(units, at_us, 't')) == 0 then
    return false
  end
  redis.call('HSET', KEYS[4], id, shrink_entry_text(units, at_us))
  return true
end

function load.regrant()
  local FIELDS = 8
  local stock = tonumber(redis.call('HGET', KEYS[2], 'stock'))
  for at = FIRST, #ARGV, FIELDS do
    local id, at_us, _, user_id, units = unpack(ARGV, at, at + 4)
    local granted = false
    if stock >= tonumber(units) and user_id == '-' then
      granted = regrant_shrink(id, at_us, tonumber(units))
    elseif stock >= tonumber(units) then
      granted = regrant_reservation(unpack(ARGV, at, at + FIELDS - 1))
    end
    if granted then
      stock = stock - units
      redis.call('HSET', KEYS[2], 'stock', text(stock))
      redis.call('HINCRBY', KEYS[2], 'unsettled', units)
    end
  end
end

if ARGV[4] ~= 'begin' and ARGV[4] ~= 'renew' and redis.call('EXISTS', KEYS[2]) == 0 then
  return { 'lost' }
end
load[ARGV[4]]()
for _, key in ipairs(KEYS) do
  redis.call('EXPIRE', key, ARGV[3])
end
return { 'ok' }
