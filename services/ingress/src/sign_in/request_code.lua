-- Counts one code for a mailbox and stores it, unless a level of the limits blocks the mailbox: of this client, or
-- of all. A code is stored twice, with attempts of its own each: under the challenge of who asked for it, and as the
-- address' newest.
-- KEYS[1] sent, by this client   ZSET of the codes sent lately: unique member, milliseconds
-- KEYS[2] blocked, for it        there while no code is sent
-- KEYS[3] sent, by all
-- KEYS[4] blocked, for all
-- KEYS[5] newest code            HASH: hash, attempts, challenge
-- KEYS[6] code of the challenge  HASH: the same
-- KEYS[7] failed                 attempts of the day that were not right
-- ARGV[1] challenge  ARGV[2] the code's hash  ARGV[3] the long code's hash  ARGV[4] the code's life in ms
-- ARGV[5] how many failed attempts it takes for a long code
-- ARGV[6...] levels: count of this client, count of all, window in ms, block in ms
-- Answers for how many milliseconds no code will be sent, or 0, and whether it is the long one that is to be.
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
