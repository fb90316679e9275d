-- Call slots that several processes share. The counterpart of bridge/calls/admission.py and admission_memory.py:
-- the rules are the same, line by line, and one table of scenarios is held against both.
--
-- KEYS[1]  prefix of all keys, with a hash tag
-- ARGV[1]  "serve" (decide and give back, in order), "renew" or "leave"
-- ARGV[2]  MessagePack of the caller's {instance, lease_ms, waiter_ttl_ms, max_waiting, remember_ms, max_agents}
-- ARGV[3]  MessagePack of the items: asks {"t", Ask}, releases {"r", Release}, or calls (HeldCall)
-- ARGV[4], ARGV[5]  renew: the day, and milliseconds that burst calls lasted longer
--
-- Time is the server's, so clocks of processes do not matter. Every slot is a member of a sorted set scored by the end
-- of its lease; what is over does not count, swept or not.

local base = KEYS[1]
local instance, lease_ms, waiter_ttl_ms, max_waiting, remember_ms, max_agents =
  unpack(cmsgpack.unpack(ARGV[2]))

local CALLS = base .. ':calls'          -- call -> end of lease
local BATCH = base .. ':batch'          -- the batch calls among them
local BURST = base .. ':burst'          -- the burst calls among them
local OWNERS = base .. ':owners'        -- call -> {instance, agent, is_batch, is_burst, day, is_reserved}
local AGENTS = base .. ':agents'        -- agent -> end of its latest lease
local GONE = base .. ':gone'            -- call given back -> until when that is remembered
local INSTANCES = base .. ':instances'  -- process -> end of lease
local QUEUE = base .. ':queue'          -- waiting call -> its number
local ASKED = base .. ':asked'          -- waiting call -> when it asked last
local WAITERS = base .. ':waiters'      -- waiting call -> its Ask
local RATES = base .. ':rates'          -- source -> when it may call again on average, microseconds
local SWEEP = 200                       -- dead members removed per call at most

local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now = math.floor(now_us / 1000)
local FREE, DAILY, AGENT, CAPACITY, RATE = 0, 1, 2, 3, 4

local function agent_key(agent) return base .. ':agent:' .. agent end
local function day_key(day) return base .. ':day:' .. day end

local function alive(set) return redis.call('ZCOUNT', set, '(' .. now, '+inf') end

local function holds(set, member)
  local ends = redis.call('ZSCORE', set, member)
  return ends and tonumber(ends) > now
end

local function owner(call)
  local packed = holds(CALLS, call) and redis.call('HGET', OWNERS, call)
  return packed and cmsgpack.unpack(packed)
end

local function count_day(day, field, by)
  redis.call('HINCRBY', day_key(day), field, by)
  redis.call('EXPIRE', day_key(day), 180000)  -- fifty hours: the day in any time zone, and a while to look at it
end

local function drop(call, agent)
  redis.call('ZREM', CALLS, call)
  redis.call('ZREM', BATCH, call)
  redis.call('ZREM', BURST, call)
  redis.call('ZREM', agent_key(agent), call)
  redis.call('HDEL', OWNERS, call)
end

local function put(call, agent, is_batch, is_burst, day, is_reserved)
  local ends = now + lease_ms
  redis.call('ZADD', CALLS, ends, call)
  redis.call('ZADD', agent_key(agent), ends, call)
  redis.call('PEXPIRE', agent_key(agent), lease_ms)
  redis.call('ZADD', AGENTS, ends, agent)
  if is_batch then redis.call('ZADD', BATCH, ends, call) end
  if is_burst then redis.call('ZADD', BURST, ends, call) end
  redis.call('HSET', OWNERS, call, cmsgpack.pack({instance, agent, is_batch, is_burst, day, is_reserved}))
end

-- New leases for calls {call, agent, is_batch, is_burst, ...} that are entered already: one command a set.
local function prolong(held_calls)
  local ends = now + lease_ms
  local sets, agents = {}, {}
  local function add(set, call)
    local words = sets[set] or {}
    sets[set] = words
    words[#words + 1] = ends
    words[#words + 1] = call
  end
  for _, held_call in ipairs(held_calls) do
    local call, agent, is_batch, is_burst = unpack(held_call)
    add(CALLS, call)
    add(agent_key(agent), call)
    if is_batch then add(BATCH, call) end
    if is_burst then add(BURST, call) end
    agents[agent] = true
  end
  for set, words in pairs(sets) do redis.call('ZADD', set, unpack(words)) end
  for agent in pairs(agents) do
    redis.call('PEXPIRE', agent_key(agent), lease_ms)
    redis.call('ZADD', AGENTS, ends, agent)
  end
end

local function forget_waiter(call)
  if redis.call('ZREM', QUEUE, call) == 1 then
    redis.call('ZREM', ASKED, call)
    redis.call('HDEL', WAITERS, call)
  end
end

local function sweep()
  for _, call in ipairs(redis.call('ZRANGEBYSCORE', CALLS, '-inf', now, 'LIMIT', 0, SWEEP)) do
    local packed = redis.call('HGET', OWNERS, call)
    drop(call, packed and cmsgpack.unpack(packed)[2] or '')
  end
  for _, call in ipairs(redis.call('ZRANGEBYSCORE', ASKED, '-inf', now - waiter_ttl_ms)) do
    forget_waiter(call)
  end
end

-- --- the decision: see judge, held_up in bridge/calls/admission.py ---

local function read_ask(a)
  return {
    call = a[1], agent_id = a[2], normal = a[3], ceiling = a[4], agent = a[5], is_batch = a[6], batch = a[7],
    daily = a[8], burst_ms = a[9], day = a[10], wait = a[11], source = a[12], spacing_us = a[13], tolerance_us = a[14],
  }
end

local function agent_counts(ask)
  local own = alive(agent_key(ask.agent_id))
  local today = redis.call('HGET', day_key(ask.day), 'agent:' .. ask.agent_id)
  return own, tonumber(today or 0)
end

local function judge(ask, calls, batch, own, today, burst_ms)
  if today >= ask.daily then return DAILY end
  if own >= ask.agent then return AGENT end
  local ceiling = ask.ceiling
  if burst_ms >= ask.burst_ms then ceiling = ask.normal end
  if batch >= ask.batch or calls >= ceiling then return CAPACITY end
  return FREE
end

local function held_up(ask, calls, batch, burst_ms, ahead)
  local agents = {}
  for first = 1, #ahead, 100 do
    local ids = {}
    for i = first, math.min(first + 99, #ahead) do ids[#ids + 1] = ahead[i] end
    for _, packed in ipairs(redis.call('HMGET', WAITERS, unpack(ids))) do
      local waiter = packed and read_ask(cmsgpack.unpack(packed))
      if waiter then
        local seen = agents[waiter.agent_id]
        if not seen then
          seen = {agent_counts(waiter)}
          agents[waiter.agent_id] = seen
        end
        if judge(waiter, calls, batch, seen[1], seen[2], burst_ms) == FREE then
          local same = waiter.agent_id == ask.agent_id and 1 or 0
          local reason = judge(
            waiter, calls + 1, batch + (ask.is_batch and 1 or 0), seen[1] + same, seen[2] + same, burst_ms)
          if reason ~= FREE then return reason end
          calls = calls + 1
          if waiter.is_batch then batch = batch + 1 end
          seen[1], seen[2] = seen[1] + 1, seen[2] + 1
        end
      end
    end
  end
  return FREE
end

local function in_time(ask)
  if ask.spacing_us == 0 then return true end
  redis.call('ZREMRANGEBYSCORE', RATES, '-inf', now_us)
  local due_us = math.max(tonumber(redis.call('ZSCORE', RATES, ask.source) or 0), now_us)
  if due_us - now_us > ask.tolerance_us then return false end
  redis.call('ZADD', RATES, due_us + ask.spacing_us, ask.source)
  return true
end

-- Answers {status, position, calls, batch, agent, today, burst_ms, waiting};
-- status: 0 granted, 1 granted as burst, 10 + reason waiting, 20 + reason refused.
local function take(packed_ask)
  local ask = read_ask(packed_ask)
  local held = owner(ask.call)
  if held then
    if held[2] ~= ask.agent_id then redis.call('ZREM', agent_key(held[2]), ask.call) end
    put(ask.call, ask.agent_id, held[3], held[4], held[5], false)
    forget_waiter(ask.call)
    return {held[4] and 1 or 0, 0, 0, 0, 0, 0, 0, 0}
  end
  local own, today = agent_counts(ask)
  local calls, batch = alive(CALLS), alive(BATCH)
  local burst_ms = tonumber(redis.call('HGET', day_key(ask.day), 'burst_ms') or 0)
  local waiting = redis.call('ZCARD', QUEUE)
  local rank = waiting > 0 and redis.call('ZRANK', QUEUE, ask.call)
  local ahead = rank or waiting
  local reason = FREE
  if not rank and not in_time(ask) then reason = RATE end
  if reason == FREE then reason = judge(ask, calls, batch, own, today, burst_ms) end
  if reason == FREE and ahead > 0 then
    reason = held_up(ask, calls, batch, burst_ms, redis.call('ZRANGE', QUEUE, 0, ahead - 1))
  end
  local status = 20 + reason
  if reason == FREE then
    local is_burst = calls >= ask.normal
    if rank then forget_waiter(ask.call) end
    redis.call('ZREM', GONE, ask.call)
    put(ask.call, ask.agent_id, ask.is_batch, is_burst, ask.day, false)
    count_day(ask.day, 'agent:' .. ask.agent_id, 1)
    status = is_burst and 1 or 0
  elseif ask.wait and (reason == AGENT or reason == CAPACITY) and (rank or waiting < max_waiting) then
    if not rank then redis.call('ZADD', QUEUE, redis.call('INCR', base .. ':number'), ask.call) end
    redis.call('ZADD', ASKED, now, ask.call)
    redis.call('HSET', WAITERS, ask.call, cmsgpack.pack(packed_ask))
    status = 10 + reason
  elseif rank then
    forget_waiter(ask.call)
    waiting = waiting - 1
  end
  return {status, ahead + 1, calls, batch, own, today, burst_ms, waiting}
end

local function give_back(release)
  local call, refund, anywhere = unpack(release)
  local held = owner(call)
  if held and held[1] ~= instance then
    -- Another process has taken it over, or, not having heard of the call yet, still keeps the slot for it.
    local is_over = anywhere or held[6] and not refund
    if not is_over then return end
  end
  forget_waiter(call)
  if not held and refund and not anywhere then return end  -- reserved before Redis lost it: others may have the call
  redis.call('ZADD', GONE, now + remember_ms, call)
  if not held then return end
  drop(call, held[2])
  local field = 'agent:' .. held[2]
  if refund and tonumber(redis.call('HGET', day_key(held[5]), field) or 0) > 0 then count_day(held[5], field, -1) end
end

-- The calls that are not this process's any more; enters those that Redis does not know. When it has come back empty,
-- the process that has the call may be later than the one that only reserved its slot: the slot is the former's then.
-- Hundreds come at once, and nearly all are as they were: those cost no command each.
local function renew(held_calls)
  local lost, as_was, ids = {}, {}, {}
  for i, held_call in ipairs(held_calls) do ids[i] = held_call[1] end
  if #ids == 0 then return lost end
  local ends = redis.call('ZMSCORE', CALLS, unpack(ids))
  local owners = redis.call('HMGET', OWNERS, unpack(ids))
  for i, held_call in ipairs(held_calls) do
    local call, agent, is_batch, is_burst, day, is_counted, is_reserved = unpack(held_call)
    local held = ends[i] and tonumber(ends[i]) > now and owners[i]
    local known = held and held ~= cmsgpack.pack({instance, agent, is_batch, is_burst, day, is_reserved})
      and cmsgpack.unpack(held)
    if held and not known then
      as_was[#as_was + 1] = held_call
    elseif known and known[1] ~= instance and (is_reserved or not known[6]) or not held and holds(GONE, call) then
      lost[#lost + 1] = call
    else
      if known then drop(call, known[2]) end
      if not held and not is_counted then count_day(day, 'agent:' .. agent, 1) end
      put(call, agent, is_batch, is_burst, day, is_reserved)
    end
  end
  prolong(as_was)
  return lost
end

local function agents_shown()
  local shown = {}
  redis.call('ZREMRANGEBYSCORE', AGENTS, '-inf', now)
  for _, agent in ipairs(redis.call('ZREVRANGE', AGENTS, 0, max_agents - 1)) do
    local calls = alive(agent_key(agent))
    if calls > 0 then
      shown[#shown + 1] = agent
      shown[#shown + 1] = calls
    end
  end
  return shown
end

-- --- entrance ---

redis.call('SET', base .. ':epoch', now_us % 9007199254740992, 'NX')
local epoch = tonumber(redis.call('GET', base .. ':epoch'))
sweep()

if ARGV[1] == 'serve' then
  local answers = {}
  for i, item in ipairs(cmsgpack.unpack(ARGV[3])) do
    if item[1] == 't' then
      answers[i] = take(item[2])
    else
      give_back(item[2])
      answers[i] = 0
    end
  end
  return {epoch, alive(CALLS), alive(BURST), alive(BATCH), redis.call('ZCARD', QUEUE), answers}
end

if ARGV[1] == 'leave' then
  redis.call('ZREM', INSTANCES, instance)
  return {epoch}
end

redis.call('ZREMRANGEBYSCORE', INSTANCES, '-inf', now)
redis.call('ZREMRANGEBYSCORE', GONE, '-inf', now)
redis.call('ZADD', INSTANCES, now + lease_ms, instance)
local lost = renew(cmsgpack.unpack(ARGV[3]))
if tonumber(ARGV[5]) > 0 then count_day(ARGV[4], 'burst_ms', ARGV[5]) end
return {
  epoch, lost, redis.call('ZCARD', INSTANCES), alive(CALLS), alive(BURST), alive(BATCH), redis.call('ZCARD', QUEUE),
  tonumber(redis.call('HGET', day_key(ARGV[4]), 'burst_ms') or 0), agents_shown(),
}
