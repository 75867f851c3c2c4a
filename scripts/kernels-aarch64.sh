#!/usr/bin/env bash
# Runs the unit tests of all kernels for aarch64 on any machine, under qemu, as the two kinds of CPU that boards have: those
# that resize pictures (NEON against the scalar loops), and the whole plan engine but for its reading of ONNX files: every
# kernel, step and fused pattern against plain loops, plans as files, hostile ones too. They need a few small crates, so this
# builds them alone, in a temporary crate: two minutes where the target's std is built from source, seconds after that.
#
#   scripts/kernels-aarch64.sh [FILTER]
#
# CARGO_BUILD is the command that can build for the target; else it is found as scripts/build finds it. TARGET defaults to
# aarch64-unknown-linux-musl, RUNNER to qemu-aarch64-static, CPUS to "cortex-a72 cortex-a76", TARGET_DIR to target/kernels.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${TARGET:-aarch64-unknown-linux-musl}
toolchain=$root/../shared/toolchain/setup-cross.sh
if [[ -z ${CARGO_BUILD-} && ! -d $(rustc --print sysroot)/lib/rustlib/$target/lib && -f $toolchain ]]; then
  # shellcheck disable=SC1090
  source "$toolchain" >&2
  set -euo pipefail
  # A test binary needs the crate of tests as well.
  CARGO_BUILD="${CROSS_CARGO/panic_abort/panic_abort,test}"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/src/engine" "$work/src/frame"
ln -s "$root/src/frame/resize" "$work/src/frame/resize"
ln -s "$root/src/random.rs" "$root/src/thread.rs" "$work/src/"
ln -s "$root/src/engine/plan" "$work/src/engine/plan"
cp "$root/Cargo.lock" "$work"
{
  printf '[package]\nname = "kernels"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n[dependencies]\n'
  sed -nE '/^\[(dev-)?dependencies\]/,/^\[profile/s/^(crc32fast|libc|memmap2|nix|serde|serde_json|tempfile|thiserror) = /&/p' \
    "$root/Cargo.toml" | sed "s/, optional = true//"
  # Tests: every check on, and fast enough under emulation.
  printf '[profile.dev]\nopt-level = 2\ndebug = "line-tables-only"\n'
} > "$work/Cargo.toml"
# All modules of the plan but those that need tract, or are about engines, models and where plans lie.
modules=$(sed -nE 's/^(pub )?mod ([a-z0-9_]+);/\2/p' "$root/src/engine/plan/mod.rs" |
  grep -vxE 'lower|engine|make|make_fp16|make_int8|profile|referee|shelf|target')
cat > "$work/src/lib.rs" <<RUST
#![allow(dead_code, unused_imports)]
pub mod frame {
    $(sed -n '/^pub struct Size {/,/^}/p' "$root/src/frame/view.rs" | sed '1i #[derive(Clone, Copy, Debug, PartialEq, Eq)]')
    mod resize {
        mod kernel;
        mod taps;
    }
}
pub mod random;
pub mod thread;
pub mod engine {
    $(sed -n '/^pub enum Precision {/,/^}/p; /^impl Precision {/,/^}/p; /^impl std::fmt::Display for Precision {/,/^}/p' \
      "$root/src/engine/mod.rs" | sed -E '1i #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]')
    pub mod plan {
        $(printf 'pub mod %s; ' $modules)
        pub use fuse::fuse;
    }
}
RUST
cd "$work"
export CARGO_TARGET_DIR=${TARGET_DIR:-$root/target/kernels}
${CARGO_BUILD:-cargo zigbuild} --target "$target" --tests
# A test binary is the one executable without an extension.
tests=$(find "$CARGO_TARGET_DIR/$target/debug/deps" -name 'kernels-*' -type f -perm -u+x -printf '%T@ %p\n' | sort -n | tail -1)
for cpu in ${CPUS:-cortex-a72 cortex-a76}; do
  printf '\n== %s\n' "$cpu"
  QEMU_CPU=$cpu "${RUNNER:-qemu-aarch64-static}" "${tests#* }" "$@"
done
