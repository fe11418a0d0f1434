-- Posts the JPEGs that are named behind "--", in turn; prints figures as JSON on the last line.
local requests, nth = {}, 0

function init(files)
  local headers = { ["Content-Type"] = "image/jpeg" }
  for index, name in ipairs(files) do
    local file = assert(io.open(name, "rb"))
    requests[index] = wrk.format("POST", nil, headers, file:read("*a"))
    file:close()
  end
end

function request()
  nth = nth % #requests + 1
  return requests[nth]
end

function done(summary, latency, rates)
  local failed = summary.errors
  io.write(string.format(
    '\n{"per_s": %f, "p50_ms": %f, "p99_ms": %f, "errors": %d}\n',
    summary.requests / (summary.duration / 1e6),
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    failed.connect + failed.read + failed.write + failed.status + failed.timeout))
end
