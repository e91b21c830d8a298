-- One step of one account: nothing where anything that it was computed from has changed since; all of it otherwise.
--
-- A script, since the comparison and the writes must be one: MULTI/EXEC cannot compare, and WATCH needs a connection
-- of its own and a round trip more. It decides nothing about money: what is written was decided from the rows that it
-- finds unchanged here.
--
-- KEYS   1 the epoch   2 the newest instant told here   3 the queue of records   4 deadlines of holds
--        5 expiries of grants   6 jobs   7… the rows that were looked at
-- ARGV   1 the epoch that the caller knows
--        2 the instant at which it decided, in ms
--        3 how far that may be from this store's own time, in ms; empty: it is believed
--        4 the stamp of what is written
--        then for each row the stamp that it was found with: empty where there was none, `?` where it is not known
--        then how many rows are written, each as: its place among the rows, its value, its life in ms or empty
--        then how many records go into the queue, each as its bytes
--        then how many places in an index change, each as: which key, the member, its score or empty to take it out
--
-- Returns {'done', now}, {'stale', now, row…} with the rows as they are, {'time', now}, or {'epoch', the one here}.
-- A value begins with its stamp, eight bytes that no other write has. So a step that is sent again since its answer was
-- lost finds its own stamp, and is done.

local ROWS = 7

local epoch = redis.call('GET', KEYS[1])
if epoch ~= ARGV[1] then
    return {'epoch', epoch or ''}
end

local now = tonumber(ARGV[2])
if ARGV[3] ~= '' then
    local time = redis.call('TIME')
    local here = time[1] * 1000 + math.floor(time[2] / 1000)
    local newest = tonumber(redis.call('GET', KEYS[2]) or '0')
    if newest > here then
        here = newest
    end
    if math.abs(here - now) > tonumber(ARGV[3]) then
        return {'time', here}
    end
    now = here
end

local argument = 4
local function next_argument()
    argument = argument + 1
    return ARGV[argument]
end

local stamp = ARGV[4]
local rows = {}
local stamps = {}
local stale = false
for key = ROWS, #KEYS do
    local row = redis.call('GET', KEYS[key])
    local found = row and string.sub(row, 1, 8) or ''
    rows[#rows + 1] = row
    stamps[#stamps + 1] = found
    if found ~= next_argument() then
        stale = true
    end
end

local writes = tonumber(next_argument())
if stale then
    local repeated = writes > 0
    for _ = 1, writes do
        if stamps[tonumber(next_argument())] ~= stamp then
            repeated = false
        end
        argument = argument + 2
    end
    if repeated then
        return {'done', now}
    end
    return {'stale', now, unpack(rows)}
end

for _ = 1, writes do
    local key = KEYS[ROWS - 1 + tonumber(next_argument())]
    local value = next_argument()
    local life = next_argument()
    if life == '' then
        redis.call('SET', key, value)
    else
        redis.call('SET', key, value, 'PX', life)
    end
end
for _ = 1, tonumber(next_argument()) do
    redis.call('XADD', KEYS[3], '*', 'r', next_argument())
end
for _ = 1, tonumber(next_argument()) do
    local key = KEYS[tonumber(next_argument())]
    local member = next_argument()
    local score = next_argument()
    if score == '' then
        redis.call('ZREM', key, member)
    else
        redis.call('ZADD', key, score, member)
    end
end
if ARGV[3] ~= '' and writes > 0 then
    redis.call('SET', KEYS[2], string.format('%.0f', now))
end
return {'done', now}
