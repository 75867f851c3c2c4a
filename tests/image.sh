#!/usr/bin/env bash
# Makes images of qemu-virt with the binary of an argument and looks into them:   tests/image.sh BINARY [BAKER]
#
# BAKER is a firstlight of this machine, which bakes the plans; default: target/debug/firstlight, which `cargo test`
# leaves. Needs what scripts/image needs. What an image does when it boots is tested elsewhere.
set -euo pipefail
binary=$(realpath "${1:?tests/image.sh BINARY [BAKER]}")
baker=$(realpath -m "${2:-$(dirname "$0")/../target/debug/firstlight}")
cd "$(dirname "$0")/.."
repository=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PATH=$PATH:/usr/sbin:/sbin

fail() { echo "tests/image.sh: $*" >&2; exit 1; }
[[ -x $baker ]] || fail "$baker: no such program, which bakes the plans; \`cargo build\` makes one, or name another"
has() { unsquashfs -cat "$work/root.squashfs" "$1" 2>/dev/null | grep -q -- "$2" || fail "$1 of the root has no $2"; }

# A cache as the default engine writes it: an absolute link to a blob, and a classic package beside it.
cache=$work/cache
blob=0123456789abcdef0123456789abcdef
mkdir -p "$cache/parts/1" "$cache/models-cache/v2-x/onnx" "$cache/shared-blobs" "$cache/_file_locks"
cp src/demo/{model_type.json,environment.json,class_names.txt} "$cache/parts/1/"
cp src/demo/parts.onnx "$cache/parts/1/weights.onnx"
echo '{"model_id": "x/1"}' >"$cache/models-cache/v2-x/onnx/model_config.json"
echo weights >"$cache/shared-blobs/$blob"
ln -s "/elsewhere/shared-blobs/$blob" "$cache/models-cache/v2-x/onnx/weights.onnx"
printf 'cache = "/models"\nmodel = "parts/1"\n[device]\nmodules = ["vivid n_devs=1"]\n' >"$work/device.toml"

# The same bytes, whoever makes it, where and when.
token=$(printf %s 'a token of the tests' | sha256sum | cut -d ' ' -f 1)
arguments=(qemu-virt --binary "$binary" --baker "$baker" --model "$cache" --config "$work/device.toml" --token-sha256 "$token")
scripts/image "${arguments[@]}" -o "$work/a.img"
(cd "$work" && umask 077 && TZ=Asia/Tokyo "$repository/scripts/image" "${arguments[@]}" -o b.img)
cmp "$work/a.img" "$work/b.img" || fail "the same inputs gave other bytes"

[[ $(sfdisk -d "$work/a.img" | grep -c start=) == 7 ]] || fail "expected seven partitions"
dd if="$work/a.img" of="$work/root.squashfs" bs=1M skip=213 count=256 status=none
dd if="$work/a.img" of="$work/data.ext4" bs=1M skip=727 count=64 status=none
e2fsck -fn "$work/data.ext4" >/dev/null 2>&1 || fail "the data file system has faults"
unsquashfs -cat "$work/root.squashfs" data.ext4 | cmp - "$work/data.ext4" || fail "/data.ext4 is not the data partition"
has etc/firstlight/release 'board = "qemu-virt"'
has etc/firstlight/config.toml "tokens_sha256 = \["
has etc/firstlight/config.toml "$token"
modules=lib/modules/$(unsquashfs -l "$work/root.squashfs" | sed -n 's|^squashfs-root/lib/modules/\([^/]*\)$|\1|p')
has "$modules/modules.dep" 'vivid.ko: .*mc.ko'
# A soft dependency is as good as a hard one where there is no modprobe.
has "$modules/modules.dep" 'ext4.ko: .*crc32c_generic.ko'
unsquashfs -ll "$work/root.squashfs" | grep -q "weights.onnx -> ../../../shared-blobs/$blob" || fail "the blob's link is lost"
# The plan of the model that has one, of what every board of the architecture has.
sha256=$(sha256sum src/demo/parts.onnx | cut -d ' ' -f 1)
plans=$(unsquashfs -l "$work/root.squashfs" | sed -n 's|^squashfs-root/models/.firstlight/plans/||p')
[[ $plans == "$sha256".neon.fp32.1x3x320x320.plan ]] || fail "plans of the root: '$plans', expected that of parts/1 ($sha256)"
for file in Image initramfs cmdline.env; do
  mdir -b -i "$work/a.img@@20M" "::$file" >/dev/null || fail "boot A has no $file"
done

# What is said of access, without making an image of it: no token and the network, a token, loopback.
access() {
  python3 - "$work/access.toml" "$@" <<'PYTHON'
import pathlib, sys
sys.path.insert(0, "scripts")
sys.dont_write_bytecode = True
from types import SimpleNamespace
from imaging import slot, tools
path, given, *tokens = sys.argv[1:]
pathlib.Path(path).write_text(given)
options = SimpleNamespace(config=path if given else None, token_sha256=tokens)
try:
    print(slot.config_text(options, {"name": "qemu-virt"}, [], "/models"))
except tools.ImageError as error:
    print(error)
PYTHON
}
shut='answers for its health and nothing else'
[[ $(access "" 2>&1) == *"$shut"* ]] || fail "an image that lets nobody in does not say so"
[[ $(access 'listen = "0.0.0.0:9001"' 2>&1) == *"$shut"* ]] || fail "a configuration that lets nobody in does not say so"
[[ $(access "" "$token" 2>&1) == *"$shut"* ]] && fail "said to let nobody in, with a token"
for open in 'listen = "127.0.0.1:9001"' $'listen = "[::]:1"\n[http]\naccess = "open"' $'listen = "[::]:1"\n[device]\ntoken_sha256 = "x"'; do
  [[ $(access "$open" 2>&1) == *"$shut"* ]] && fail "said to let nobody in: $open"
done
[[ $(access $'[http]\naccess = "token"' "$token") == *'an [http] of its own'* ]] || fail "two [http] were not noticed"

# What is refused: something else than a digest, a link out of the cache, a module that the kernel lacks.
ln -s /etc/passwd "$cache/models-cache/v2-x/onnx/out"
scripts/image "${arguments[@]}" --token-sha256 secret -o "$work/c.img" 2>"$work/said" && fail "a token was taken for its digest"
grep -q 'expected 64 hex digits' "$work/said" || fail "$(cat "$work/said")"
grep -q secret "$work/said" && fail "a token was repeated: $(cat "$work/said")"
scripts/image "${arguments[@]}" -o "$work/c.img" 2>"$work/said" && fail "a link out of the cache was followed"
grep -q 'which is not in the cache' "$work/said" || fail "$(cat "$work/said")"
rm "$cache/models-cache/v2-x/onnx/out"
cp "$work/device.toml" "$work/right.toml"
printf '[serving]\npreload = ["gone/7"]\n' >>"$work/device.toml"
scripts/image "${arguments[@]}" -o "$work/c.img" 2>"$work/said" && fail "a model that is not in the image was passed over"
grep -q 'without a network the device would lack: model gone/7' "$work/said" || fail "$(cat "$work/said")"
mv "$work/right.toml" "$work/device.toml"
sed -i s/vivid/vivit/ "$work/device.toml"
scripts/image "${arguments[@]}" -o "$work/c.img" 2>"$work/said" && fail "a module that is not there was passed over"
grep -q 'has no module vivit; the nearest is vivid' "$work/said" || fail "$(cat "$work/said")"
[[ ! -e $work/c.img ]] || fail "an image was left behind"
echo "tests/image.sh: ok"
