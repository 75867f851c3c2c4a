#!/usr/bin/env bash
# Runs the unit tests of the resize kernels for aarch64 (NEON against the scalar loops) on any machine, under qemu.
# The kernels need nothing but std, so this builds them alone, in a temporary crate: seconds where the target's std is
# installed, minutes where it is built from source first (then the command needs `-Zbuild-std=std,panic_abort,test`).
#
#   CARGO_BUILD='cargo zigbuild' scripts/kernels-aarch64.sh     # the command that can build for the target
#
# TARGET defaults to aarch64-unknown-linux-musl, RUNNER to qemu-aarch64-static, TARGET_DIR to a temporary directory.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${TARGET:-aarch64-unknown-linux-musl}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
ln -s "$root/src/frame/resize" "$work/src/resize"
cat > "$work/Cargo.toml" <<'TOML'
[package]
name = "kernels"
version = "0.0.0"
edition = "2024"
[workspace]
TOML
cat > "$work/src/lib.rs" <<'RUST'
#![allow(dead_code)]
mod resize {
    mod kernel;
    mod taps;
}
RUST
cd "$work"
export CARGO_TARGET_DIR=${TARGET_DIR:-$work/target}
${CARGO_BUILD:-cargo zigbuild} --target "$target" --tests
# A test binary is the one executable without an extension.
tests=$(find "$CARGO_TARGET_DIR/$target/debug/deps" -name 'kernels-*' -type f -perm -u+x -printf '%T@ %p\n' | sort -n | tail -1)
"${RUNNER:-qemu-aarch64-static}" "${tests#* }" --nocapture
