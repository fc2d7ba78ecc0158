-- Leans on the parser, the collector, strings, tables, coroutines and the standard library of the interpreter.
assert(_VERSION == "Lua 5.4")

local function primes(limit)
  return coroutine.wrap(function()
    local composite = {}
    for n = 2, limit do
      if not composite[n] then
        coroutine.yield(n)
        for m = n * n, limit, n do composite[m] = true end
      end
    end
  end)
end

local found = {}
for p in primes(50) do found[#found + 1] = p end
assert(table.concat(found, " ") == "2 3 5 7 11 13 17 19 23 29 31 37 41 43 47")

local caught, message = pcall(error, { code = 7 })
assert(not caught and message.code == 7)
assert(("heph"):rep(3, "-") == "heph-heph-heph")
assert(select("#", string.unpack("<i4", string.pack("<i4", -5))) == 2)
assert(utf8.len("häph") == 4)
assert(math.maxinteger // 1 | 0 == math.maxinteger)
for _ = 1, 3 do
  for i = 1, 1e4 do found[i] = { i } end
  collectgarbage()
end

print("lua is well")
