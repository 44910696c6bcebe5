-- Begins a load: shuts the sale, if there is one, and claims it for the load with this nonce.
--
-- KEYS  1 sale, 2 holds, 3 outbox, 4 claim
-- ARGV  1 caller, 2 nonce, 3 epoch in PostgreSQL, 4 seconds until an abandoned claim is forgotten
-- reply live (the sale is in use in this epoch or a later one, so no load is needed) | other_log (another
--       deployment has loaded it) | claimed, promise_ms of the sale that is there or 0

local sale, refusal = usable_sale(ARGV[1], 'epoch')
if sale and tonumber(sale[4]) >= tonumber(ARGV[3]) then
  return { 'live' }
elseif refusal == 'other_log' then
  return { 'other_log' }
end
if refusal ~= 'absent' then
  redis.call('HSET', KEYS[1], 'state', 'shut')
end
redis.call('SET', KEYS[4], ARGV[2] .. '|' .. ARGV[1], 'EX', ARGV[4])
return { 'claimed', redis.call('HGET', KEYS[1], 'promise_ms') or '0' }
