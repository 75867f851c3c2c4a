#!/usr/bin/env bash
# TensorFlow Lite's own C library, of Debian testing, in a folder that is a root for it:   tests/tflite-library.sh [amd64|arm64]
#
# Prints the root's path. The library needs a newer libc than a stable system has, so the root holds that too, and a program
# that loads the library runs under the root's own loader:
#   root=$(tests/tflite-library.sh)
#   "$root"/loader --library-path "$root/lib" PROGRAM "$root"/lib/libtensorflow-lite.so
# Verified by apt's signatures. Nothing of the system changes: apt works in target/, with this machine's own sources and
# their suite replaced. What was fetched before is not looked for again. Exits 1, with the reason, where it cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."

architecture=${1:-$(dpkg --print-architecture)}
case $architecture in
  amd64) triplet=x86_64-linux-gnu loader=ld-linux-x86-64.so.2 ;;
  arm64) triplet=aarch64-linux-gnu loader=ld-linux-aarch64.so.1 ;;
  *) echo "tests/tflite-library.sh: $architecture: amd64 or arm64" >&2; exit 2 ;;
esac
package=libtensorflow-lite2.14.1
suite=testing
root=$PWD/target/tflite-root-$architecture
if [[ -e $root/complete ]]; then
  echo "$root"
  exit
fi
fail() { echo "tests/tflite-library.sh: $package ($architecture) could not be had: $1" >&2; exit 1; }
command -v apt-get >/dev/null || fail "no apt-get here"

state=$PWD/target/apt-tflite-$architecture
mkdir -p "$state"/{sources,state/lists/partial,cache/archives/partial,debs}
touch "$state/state/status"
# The first Debian mirror this machine knows, whatever its suite; deb822 or one-line sources.
mirror=$(cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
  sed -nE 's/^URIs: *([^ ]+\/debian\/?)( .*)?$/\1/p; s/^deb (\[[^]]*\] )?([^ ]+\/debian\/?) .*/\2/p' | head -n 1 || true)
[[ -n $mirror ]] || fail "no Debian mirror among this machine's sources"
cat >"$state/sources/testing.sources" <<SOURCES
Types: deb
URIs: $mirror
Suites: $suite
Components: main
Check-Valid-Until: no
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
cat >"$state/apt.conf" <<CONF
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
Dir::State "$state/state";
Dir::State::status "$state/state/status";
Dir::Cache "$state/cache";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$state/sources";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "$state/sources";
APT::Sandbox::User "";
CONF
export APT_CONFIG=$state/apt.conf
apt-get update -q >"$state/log" 2>&1 || fail "$(tail -n 2 "$state/log")"
# With all that it needs: in an empty system, so that nothing counts as installed.
apt-get install -q -y --no-install-recommends --download-only "$package" >>"$state/log" 2>&1 || fail "$(tail -n 2 "$state/log")"

partial=$(mktemp -d "$PWD/target/tflite-partial-XXXXXX")
trap 'rm -rf "$partial"' EXIT
for deb in "$state"/cache/archives/*.deb; do
  dpkg-deb -x "$deb" "$partial/tree"
done
# One folder of libraries: where the distribution puts them changes from release to release.
mkdir "$partial/lib"
for folder in "$partial"/tree/{lib,usr/lib}/"$triplet"; do
  [[ ! -d $folder ]] || find "$folder" -maxdepth 1 -name '*.so*' -not -type d -exec cp -P -t "$partial/lib" {} +
done
library=$(cd "$partial/lib" && ls libtensorflow-lite.so* | head -n 1) || fail "the package holds no libtensorflow-lite.so"
[[ -e $partial/lib/libtensorflow-lite.so ]] || ln -s "$library" "$partial/lib/libtensorflow-lite.so"
[[ -e $partial/lib/$loader ]] || fail "libc6 holds no $loader"
rm -rf "$partial/tree" "$root"
ln -s "lib/$loader" "$partial/loader"
touch "$partial/complete"
mv "$partial" "$root"
chmod 755 "$root"
trap - EXIT
rm -rf "$state/cache/archives"
echo "$root"
