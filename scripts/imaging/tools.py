"""The programs of the system that an image is made with, and what they may not see of the machine they run on.

The same inputs give the same bytes, so every program runs with one time, one locale and no configuration of its own.
"""

import os
import shutil
import subprocess
import sys

# 2020-01-01: every file of an image bears this time, for a FAT has none before 1980. SOURCE_DATE_EPOCH overrides it.
EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "1577836800"))

# Debian package of each program that may be missing.
PACKAGES = {
    "depmod": "kmod", "dpkg-deb": "dpkg", "mcopy": "mtools", "mformat": "mtools", "minisign": "minisign",
    "mke2fs": "e2fsprogs", "mkimage": "u-boot-tools", "mksquashfs": "squashfs-tools", "mmd": "mtools",
    "sfdisk": "fdisk", "zstd": "zstd",
}


class ImageError(Exception):
    """What stands in the way, in a sentence that says what to do."""


def say(text):
    print(f"scripts/image: {text}", file=sys.stderr, flush=True)


def environment():
    """Of every program that is run. /sbin is not on the path of a user who is not root."""
    return {
        "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin",
        "HOME": os.environ.get("HOME", "/"),
        "LC_ALL": "C",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": str(EPOCH),
        # mke2fs before 1.47.1 knows only this.
        "E2FSPROGS_FAKE_TIME": str(EPOCH),
        "MTOOLSRC": "/dev/null",
    }


def need(programs, install):
    """Asks for the packages of missing programs, or installs them where the user said so."""
    missing = [name for name in programs if not shutil.which(name, path=environment()["PATH"])]
    packages = " ".join(sorted({PACKAGES[name] for name in missing}))
    if not missing:
        return
    if not install:
        raise ImageError(f"{', '.join(missing)} not found; on Debian: apt install {packages} (or --install does it)")
    say(f"installing {packages}")
    quiet = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", *packages.split()]):
        if subprocess.run(command, env=quiet, stdout=subprocess.DEVNULL, check=False).returncode:
            raise ImageError(f"{' '.join(command)} failed; install {packages} as root, then try again")


def run(command, *, text=None, stdout=None, changes=None, interactive=False):
    """Runs a program and returns what it wrote to stdout, unless that goes to the open file `stdout`.

    `changes` overrides or, by None, removes variables of `environment()`. An `interactive` program sees the terminal.
    """
    variables = environment() | (changes or {})
    variables = {name: value for name, value in variables.items() if value is not None}
    done = subprocess.run(
        [str(word) for word in command],
        env=variables,
        input=None if interactive else (text or "").encode(),
        stdout=stdout or subprocess.PIPE,
        stderr=None if interactive else subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        said = ((done.stderr or b"") + (done.stdout or b"")).decode(errors="replace").strip()
        raise ImageError(f"{command[0]} failed with {done.returncode}: {said or 'it said nothing'}\n"
                         f"  {' '.join(map(str, command))}")
    return (done.stdout or b"").decode(errors="replace")
