#!/usr/bin/env bash
# What is offered to those who run a fleet: alert rules that Prometheus takes and whose metrics there are, and a container
# image that container tools read.   tests/fleet.sh BINARY
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$1
work=$(mktemp -d)
trap 'kill "${device-}" 2>/dev/null || true; rm -rf "$work"' EXIT

promtool check rules scripts/fleet/alerts.yml
promtool test rules scripts/fleet/alerts.test.yml
promtool check config --syntax-only scripts/fleet/prometheus.yml

# Every metric that a rule names is there; those of a board's sensors only where there are some.
"$binary" run --listen 127.0.0.1:0 --json "$work/lines" >"$work/out" 2>"$work/said" &
device=$!
for _ in $(seq 100); do
  address=$(grep -om1 'http://127.0.0.1:[0-9]*' "$work/said") && break
  sleep 0.2
done
for _ in $(seq 100); do
  curl -fs "$address/metrics" >"$work/metrics" && grep -q 'firstlight_last_frame_age_seconds ' "$work/metrics" && break
  sleep 0.2
done
for name in $(grep -o 'firstlight_[a-z_]*' scripts/fleet/alerts.yml | sort -u); do
  case $name in firstlight_temperature_celsius | firstlight_throttled | firstlight_spool_dropped_total) continue ;; esac
  grep -q "^$name[{ ]" "$work/metrics" || { echo "tests/fleet.sh: an alert names $name, which /metrics has not" >&2; exit 1; }
done
kill "$device"; wait "$device" || true

# The image: one layer, whose one file is the binary.
scripts/fleet/oci -o "$work/image.tar" "$binary"
scripts/fleet/oci -o "$work/again.tar" "$binary"
cmp "$work/image.tar" "$work/again.tar"
skopeo inspect "oci-archive:$work/image.tar" | grep -q '"MODEL_CACHE_DIR=/cache"'
mkdir "$work/image"
skopeo copy -q "oci-archive:$work/image.tar" "dir:$work/image"
layer=$(find "$work/image" -type f -size +1M)
tar -xzf "$layer" -C "$work" firstlight
cmp "$work/firstlight" "$binary"
echo "tests/fleet.sh: ok"
