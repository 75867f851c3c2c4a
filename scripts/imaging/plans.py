"""The plans of an image's models: baked here, beside the models, so that the device maps them at its first start."""

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
    baker = options.baker or shutil.which("firstlight") or default()
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


def default():
    built = Path(__file__).resolve().parents[2] / "target/release/firstlight"
    return built if built.is_file() else None
