-- Reads of statuses, one after the other, for wrk.
-- Arguments: their paths.
local requests, at = {}, 0

function init(args)
  for place, path in ipairs(args) do
    requests[place] = "GET " .. path .. " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
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
