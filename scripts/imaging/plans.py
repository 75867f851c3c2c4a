"""The plans of an image's models: baked here, beside the models, so that the device maps them at its first start."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from .tools import ImageError, environment, say

# What every board of an architecture has. A board that has more makes its own plan in its state directory.
TARGETS = {"aarch64": "neon", "x86_64": "avx2"}
# Where the binary looks beside its models (src/cli/mod.rs).
FOLDER = ".firstlight/plans"


def bake(options, board, cache):
    """Bakes the plan of every model of a cache root; without a binary that runs here, the device does it itself."""
    if not cache.is_dir() or not any(cache.iterdir()):
        return
    baker = find(options)
    if not baker:
        say("warning: no firstlight of this machine is on the path, so no plans are in the image and the device makes "
            "them at its first start; `cargo build --release` makes one, or give --baker FILE")
        return
    target = TARGETS[board["architecture"]]
    command = [baker, "--cache", cache, "cache", "bake", "--all", "--target", target, "-o", cache / FOLDER]
    # What it finds out on the way is not of this image.
    done = subprocess.run(command, env=environment() | {"FIRSTLIGHT_STATE_DIR": "off"}, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in done.stdout.splitlines():
        say(line.replace(str(cache) + os.sep, ""))
    if done.returncode:
        raise ImageError(f"{baker}: {done.stderr.strip()}")


def verify(options, board, tree, cache, whole=True):
    """The last look at a root: is everything there that the device needs, without a network? What is not is an error. A
    tree that is not the `whole` root lies over a vendor's, which may have files that it has not."""
    baker = find(options)
    if not baker:
        say("warning: no firstlight of this machine is on the path, so nobody looked whether the image has all that its "
            "configuration names")
        return
    command = [baker, "verify-offline", "--json", "--root", tree, "-c", tree / "etc/firstlight/config.toml"]
    if (cache / FOLDER).is_dir():
        command += ["--target", TARGETS[board["architecture"]]]
    done = subprocess.run(command, env=environment() | {"FIRSTLIGHT_STATE_DIR": "off"}, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        checks = json.loads(done.stdout)
    except ValueError:
        raise ImageError(f"{baker} verify-offline: {done.stderr.strip()}") from None
    missing = []
    for check in checks:
        if not whole and check["what"] in ("file", "folder") and check["state"] == "missing":
            check |= {"state": "note", "detail": "not of the overlay"}
        line = f"{check['what']} {check['subject']}: {check['detail']}".removesuffix(": ").replace(f"{tree}/", "/")
        say(f"verify-offline: {check['state']:7} {line}")
        # Not every build machine has namespaces; the device has no network either way.
        if check["state"] == "missing" and check["what"] != "network":
            missing.append(line)
    if missing:
        raise ImageError("without a network the device would lack: " + "; ".join(missing))


def find(options):
    return options.baker or shutil.which("firstlight") or default()


def default():
    built = Path(__file__).resolve().parents[2] / "target/release/firstlight"
    return built if built.is_file() else None
