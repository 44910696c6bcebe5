-- A token bucket that holds the tokens of one minute. It is stored as the time when it will be full again.
-- KEYS[1] that time in milliseconds  ARGV[1] tokens a minute  ARGV[2] 1 takes a token, -1 gives one back
-- Returns 0, or the milliseconds until there is a token.
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000
local full_ms = math.max(now_ms, tonumber(redis.call('GET', KEYS[1]) or '0'))
local next_ms = full_ms + 60000 / tonumber(ARGV[1]) * tonumber(ARGV[2])
local wait_ms = math.ceil(next_ms - now_ms - 60000)
if wait_ms > 0 then
  return wait_ms
end
if next_ms > now_ms then
  redis.call('SET', KEYS[1], string.format('%.3f', next_ms), 'PX', math.ceil(next_ms - now_ms))
else
  redis.call('DEL', KEYS[1])
end
return 0
