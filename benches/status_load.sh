#!/usr/bin/env bash
# `/status` under load while the loop runs, beside the same port while the loop has next to nothing to do:
#
#   benches/status_load.sh [BINARY]        needs wrk
#
# Rounds alternate, so that a busy machine slows both alike.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${1:-target/release/firstlight}
rounds=3

load() { # SOURCE -> "requests/s p99_us"
  "$binary" run --source "$1" --threads 1 --listen 127.0.0.1:9087 --json none 2>/dev/null &
  local pid=$!
  trap "kill $pid 2>/dev/null" EXIT
  sleep 2
  wrk -t1 -c8 -d4s --latency http://127.0.0.1:9087/status | awk '
    /99%/ { value = $2 + 0; if ($2 ~ /ms/) value *= 1000; else if ($2 !~ /us/) value *= 1e6; p99 = value }
    /Requests\/sec/ { rate = $2 }
    END { printf "%.0f %.0f\n", rate, p99 }'
  kill "$pid"
  wait "$pid" || true
  trap - EXIT
}

printf '%-28s %12s %10s\n' "loop" "requests/s" "p99 us"
for ((round = 0; round < rounds; round++)); do
  for source in 'demo:?fps=1' 'demo:'; do
    figures=$(load "$source")
    read -r rate p99 <<<"$figures"
    printf '%-28s %12s %10s\n' "$source" "$rate" "$p99"
  done
done
