-- Takes permits from a token bucket that all instances share. The bucket holds the tokens of one second.
-- KEYS[1] bucket  HASH: tokens, at_us (when they were counted, by Redis' clock)
-- ARGV[1] tokens a second  ARGV[2] permits that the instance has already used on credit; they are subtracted first,
-- also below zero  ARGV[3] permits wanted
-- Returns the permits granted, the tokens left, and the milliseconds until there is one.
local rate, owed, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at_us')
local tokens = rate
if bucket[1] then
  local since_us = math.max(0, now_us - tonumber(bucket[2]))
  tokens = math.min(rate, tonumber(bucket[1]) + rate * since_us / 1000000)
end
tokens = tokens - owed
local granted = math.max(0, math.min(wanted, math.floor(tokens)))
tokens = tokens - granted
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens),
  'at_us', string.format('%.0f', now_us))
-- A missing key means a full bucket. The key expires when the bucket is full.
redis.call('PEXPIRE', KEYS[1], math.ceil((rate - tokens) * 1000 / rate) + 1000)
local wait_ms = math.max(0, math.ceil((1 - tokens) * 1000 / rate))
return { granted, math.max(0, math.floor(tokens)), wait_ms }
