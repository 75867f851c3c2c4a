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

# Networks of other families, f16 weights among them, against what ONNX Runtime answered on the machine that builds.
exports=(yolov8n-160 yolov8n-fp16-io yolov8n-cls yolov10n)
# Making its plan takes many minutes under emulation; its operations are tested one by one with the kernels.
if [[ -n ${FIRSTLIGHT_FULL-} ]]; then exports+=(rfdetr-seg-nano); fi
scripts/export_models "${FIRSTLIGHT_EXPORTS:-target/exports}" "${exports[@]}" >&2
FIRSTLIGHT_EXPORTS_BINARY="qemu-aarch64-static -cpu cortex-a72 $(realpath "$binary")" \
  cargo test --quiet --locked --test exports -- "${exports[@]}" || fail "exports"
ok "${#exports[@]} exports agree with ONNX Runtime"

# The worker that the binary carries, with the real ONNX Runtime for arm64. Emulated, it is started by the emulator, as a board
# with another glibc starts it by that one's loader.
wheels=target/onnxruntime-aarch64
if [[ ! -f $wheels/libonnxruntime.so ]]; then
  mkdir -p "$wheels"
  python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.11 --platform manylinux_2_27_aarch64 \
    -d "$wheels" 'onnxruntime==1.21.1'
  python3 - "$wheels" <<'PYTHON'
import pathlib, sys, zipfile
folder = pathlib.Path(sys.argv[1])
wheel = zipfile.ZipFile(next(folder.glob("*.whl")))
name = next(name for name in wheel.namelist() if "/libonnxruntime.so." in name)
(folder / "libonnxruntime.so").write_bytes(wheel.read(name))
PYTHON
fi
answer=$(FIRSTLIGHT_STATE_DIR=off FIRSTLIGHT_ONNXRUNTIME=$PWD/$wheels/libonnxruntime.so \
  FIRSTLIGHT_WORKER_LOADER="$(command -v qemu-aarch64-static) -cpu cortex-a72 -L /usr/aarch64-linux-gnu" \
  run infer --engine onnxruntime --model parts/1 src/demo/golden.png 2>target/worker.log) || fail "$(cat target/worker.log)"
count=$(python3 -c 'import json, sys; print(len(json.loads(sys.argv[1])["predictions"]))' "$answer")
[[ $count == 8 ]] || fail "the worker: $count detections on the golden frame, expected 8"
grep -q "engine onnxruntime 1.21.1: within" target/worker.log || fail "the worker: $(cat target/worker.log)"
ok "the worker runs ONNX Runtime for arm64: $(grep -o 'within .* of tract' target/worker.log)"

# Errors that unwind, through Rust and through the JPEG decoder's C, must be errors here as well.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
run infer --model parts/1 --out "$scratch/whole.jpg" src/demo/golden.png >/dev/null
python3 - "$scratch" <<'PYTHON'
import pathlib, sys
scratch = pathlib.Path(sys.argv[1])
jpeg = bytearray((scratch / "whole.jpg").read_bytes())
table = jpeg.index(b"\xff\xc4")  # a Huffman table with impossible counts
jpeg[table + 5 : table + 21] = b"\xff" * 16
(scratch / "damaged.jpg").write_bytes(jpeg)
package = scratch / "cache/parts/1"
package.mkdir(parents=True)
for name in ("model_type.json", "environment.json", "class_names.txt"):
    (package / name).write_bytes(pathlib.Path("src/demo", name).read_bytes())
(package / "weights.onnx").write_bytes(pathlib.Path("src/demo/parts.onnx").read_bytes()[:600_000])
PYTHON
exit=0; run infer --model parts/1 "$scratch/damaged.jpg" >/dev/null 2>"$scratch/log" || exit=$?
[[ $exit == 1 ]] && grep -q "JPEG" "$scratch/log" || fail "damaged JPEG: exit $exit, $(cat "$scratch/log")"
ok "a damaged JPEG is an error"
exit=0; run --cache "$scratch/cache" cache verify >"$scratch/log" 2>&1 || exit=$?
[[ $exit == 4 ]] && grep -q "weights.onnx" "$scratch/log" || fail "truncated network: exit $exit, $(cat "$scratch/log")"
ok "a truncated network fails verification"
run cache verify --cache /nowhere >/dev/null 2>&1 && fail "verify of nothing passed"
ok "verify of an empty cache fails"
echo "device: $passed passed, 0 failed"
