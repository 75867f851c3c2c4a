#!/usr/bin/env bash
# Installs the Debian packages that the tests need and this machine lacks:   tests/packages.sh [--host]
#
# A browser, cameras, a broker; and without --host also what the device's tests need: emulators, U-Boot, and what
# scripts/image makes images with. As root; another user is told what is missing.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

missing=()
# Those whose recommendations nobody needs: half a desktop.
lean=()
there() { command -v "$1" >/dev/null || [[ -f $1 ]]; }
# A program or file, and the package that has it.
need() { there "$1" || missing+=("$2"); }
need_lean() { there "$1" || lean+=("$2"); }
need chromium chromium
# Assembles the SIMD of the JPEG decoder; a build without it is as right, and slower.
need nasm nasm
need curl curl
need valgrind valgrind
# Watches that nobody is called.
need strace strace
# Checks the alert rules.
need_lean promtool prometheus
# Reads container images.
need_lean skopeo skopeo
# A terminal for what asks.
need script bsdutils
# Keys and signatures of another maker.
need minisign minisign
# Makes videos and counts their frames.
need_lean ffmpeg ffmpeg
# An RTSP server.
for package in python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-{base,good,bad,ugly}; do
  need_lean "/usr/share/doc/$package/copyright" "$package"
done
# A broker for the tests of MQTT, and who listens there.
need_lean mosquitto mosquitto
need_lean mosquitto_sub mosquitto-clients
if [[ ${1-} != --host ]]; then
  need qemu-aarch64-static qemu-user-static
  need qemu-system-aarch64 qemu-system-arm
  # glibc and the C++ library of arm64, for what the vendors ship.
  need /usr/aarch64-linux-gnu/lib/libstdc++.so.6 libstdc++6-arm64-cross
  need /usr/lib/u-boot/qemu_arm64/u-boot.bin u-boot-qemu
  need mkimage u-boot-tools
  need mcopy mtools
  need mksquashfs squashfs-tools
  need sfdisk fdisk
  need mke2fs e2fsprogs
  need depmod kmod
  need zstd zstd
  need file file
fi
((${#missing[@]} + ${#lean[@]})) || exit 0
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
  echo "tests/packages.sh: install these Debian packages: ${missing[*]} ${lean[*]}" >&2
  exit 1
fi
apt-get update -qq
install() { (($# == 0)) || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null; }
((${#missing[@]} == 0)) || install "${missing[@]}"
((${#lean[@]} == 0)) || install --no-install-recommends "${lean[@]}"
