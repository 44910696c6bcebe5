-- Begins a load: shuts the sale, if there is one, and says whose load it is from now on.
--
-- KEYS  1 sale, 2 holds, 3 outbox, 4 claim
-- ARGV  1 fence, 2 nonce, 3 epoch in PostgreSQL, 4 seconds until an abandoned claim is forgotten
-- reply live (in use here and of this epoch or a later one: nothing to load) | claimed

local sale = usable_sale(ARGV[1], 'epoch')
if sale and tonumber(sale[4]) >= tonumber(ARGV[3]) then
  return { 'live' }
end
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[1], 'state', 'shut')
end
redis.call('SET', KEYS[4], ARGV[2] .. '|' .. ARGV[1], 'EX', ARGV[4])
return { 'claimed' }
