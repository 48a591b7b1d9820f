-- Ticket requests with distinct random commitments, for wrk.
-- Arguments: path, terms hash in hexadecimal, seed.
local ffi = require("ffi")
local words = ffi.new("uint32_t[8]")
local head, tail

local function unhex(text)
  return (text:gsub("..", function(pair) return string.char(tonumber(pair, 16)) end))
end

function init(args)
  -- [1, commitment, terms hash, nil]
  head = "POST " .. args[1] .. " HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    .. "Content-Type: application/msgpack\r\nContent-Length: 71\r\n\r\n"
    .. "\148\1\196\32"
  tail = "\196\32" .. unhex(args[2]) .. "\192"
  math.randomseed(tonumber(args[3]))
end

function request()
  for at = 0, 7 do
    words[at] = math.random(0, 4294967295)
  end
  return head .. ffi.string(words, 32) .. tail
end

function done(summary)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format(
    '\n{"answered": %d, "seconds": %f, "failed": %d, "problem": "connect %d, read %d, write %d, '
      .. 'status %d, timeout %d"}\n',
    summary.requests, summary.duration / 1e6, failed,
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
