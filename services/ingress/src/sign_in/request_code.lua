-- Counts one code for an address and stores it, unless a level of the limits blocks the address.
-- KEYS[1] sent     ZSET of the codes sent lately: unique member, milliseconds
-- KEYS[2] blocked  there while the address is blocked
-- KEYS[3] code     HASH: hash, attempts
-- ARGV[1] member of its own  ARGV[2] the code's hash  ARGV[3] the code's life in ms
-- ARGV[4...] levels: count, window in ms, block in ms
-- Answers 0 when the code is to be sent, else for how many milliseconds none will be.
local blocked_ms = redis.call('PTTL', KEYS[2])
if blocked_ms > 0 then
  return blocked_ms
end
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now_ms), ARGV[1])
local block_ms, widest_ms = 0, 0
for i = 4, #ARGV, 3 do
  local count, window_ms = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  local since = '(' .. string.format('%.0f', now_ms - window_ms)
  if redis.call('ZCOUNT', KEYS[1], since, '+inf') >= count then
    block_ms = math.max(block_ms, tonumber(ARGV[i + 2]))
  end
  widest_ms = math.max(widest_ms, window_ms)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now_ms - widest_ms))
redis.call('PEXPIRE', KEYS[1], widest_ms)
if block_ms > 0 then
  redis.call('SET', KEYS[2], '1', 'PX', block_ms)
end
redis.call('DEL', KEYS[3])
redis.call('HSET', KEYS[3], 'hash', ARGV[2], 'attempts', '0')
redis.call('PEXPIRE', KEYS[3], ARGV[3])
return 0
