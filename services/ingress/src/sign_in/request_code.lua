-- Counts and stores a new code for a mailbox, unless a limit blocks the mailbox for this client or for all clients.
-- The code is stored twice, and attempts are counted separately for each: under the challenge of the client that
-- asked for it, and as the newest code of the address.
-- KEYS[1] sent, for this client  ZSET of recent codes: unique member, milliseconds
-- KEYS[2] blocked, for it        exists while no code is sent
-- KEYS[3] sent, for all
-- KEYS[4] blocked, for all
-- KEYS[5] newest code            HASH: hash, attempts, challenge
-- KEYS[6] code of the challenge  HASH: the same
-- KEYS[7] failed                 number of wrong attempts of the day
-- ARGV[1] challenge  ARGV[2] the code's hash  ARGV[3] the long code's hash  ARGV[4] the code's life in ms
-- ARGV[5] from how many failed attempts on the long code is sent
-- ARGV[6...] per limit: count for this client, count for all, window in ms, block in ms
-- Returns for how many milliseconds no code is sent (0: the code is sent), and 1 if the long code is to be sent.
local blocked_ms = math.max(redis.call('PTTL', KEYS[2]), redis.call('PTTL', KEYS[4]))
if blocked_ms > 0 then
  return {blocked_ms, 0}
end
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local function count(sent, blocked, limit)
  redis.call('ZADD', sent, string.format('%.0f', now_ms), ARGV[1])
  local block_ms, widest_ms = 0, 0
  for i = 6, #ARGV, 4 do
    local most, window_ms = tonumber(ARGV[i + limit]), tonumber(ARGV[i + 2])
    local since = '(' .. string.format('%.0f', now_ms - window_ms)
    if redis.call('ZCOUNT', sent, since, '+inf') >= most then
      block_ms = math.max(block_ms, tonumber(ARGV[i + 3]))
    end
    widest_ms = math.max(widest_ms, window_ms)
  end
  redis.call('ZREMRANGEBYSCORE', sent, '-inf', string.format('%.0f', now_ms - widest_ms))
  redis.call('PEXPIRE', sent, widest_ms)
  if block_ms > 0 then
    redis.call('SET', blocked, '1', 'PX', block_ms)
  end
end
count(KEYS[1], KEYS[2], 0)
count(KEYS[3], KEYS[4], 1)
local long = tonumber(redis.call('GET', KEYS[7]) or '0') >= tonumber(ARGV[5])
for _, key in ipairs({KEYS[5], KEYS[6]}) do
  redis.call('DEL', key)
  redis.call('HSET', key, 'hash', long and ARGV[3] or ARGV[2], 'attempts', '0', 'challenge', ARGV[1])
  redis.call('PEXPIRE', key, ARGV[4])
end
return {0, long and 1 or 0}
