#!/usr/bin/env bash
# The cross-built binary as a device would run it, under user-mode emulation:   tests/device.sh BINARY
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${1:?usage: tests/device.sh BINARY}
passed=0
fail() { echo "device: $*" >&2; exit 1; }
ok() { echo "test device: $* ... ok"; passed=$((passed + 1)); }

# The limit that the README promises.
BYTES_MAX=$((20 * 1000 * 1000))
description=$(file -b "$binary")
[[ $description == *"statically linked"* || $description == *"static-pie linked"* ]] || fail "not static: $description"
[[ $description == *aarch64* ]] || fail "not for aarch64: $description"
ok "statically linked for aarch64"
bytes=$(stat -c %s "$binary")
((bytes <= BYTES_MAX)) || fail "$bytes bytes; at most $BYTES_MAX are promised"
ok "$bytes bytes, at most $BYTES_MAX"

run() { qemu-aarch64-static -cpu cortex-a72 "$binary" "$@"; }

# Fewer frames than natively: emulation is some twenty times slower.
run selftest --frames 10 || fail "selftest"
ok "selftest on a Cortex-A72"
qemu-aarch64-static -cpu cortex-a76 "$binary" selftest --frames 2 || fail "selftest on a76"
ok "selftest on a Cortex-A76"

answer=$(run infer --model parts/1 src/demo/golden.png)
count=$(python3 -c 'import json, sys; print(len(json.loads(sys.argv[1])["predictions"]))' "$answer")
[[ $count == 8 ]] || fail "infer: $count detections on the golden frame, expected 8"
ok "infer sees the golden frame's 8 parts"

lines=$(run run --frames 20 --listen off | wc -l)
[[ $lines == 20 ]] || fail "run --frames 20: $lines lines"
ok "run delivers 20 frames"

run cache verify --cache /nowhere >/dev/null 2>&1 && fail "verify of nothing passed"
ok "verify of an empty cache fails"
echo "device: $passed passed, 0 failed"
