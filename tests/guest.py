"""A real kernel in QEMU with a hand in it: the binary under test, modules, and a shell on the serial line.

tests/boot.py tries images as devices boot them, and there nobody can pull a cable from inside. Here busybox is PID 1, and
what a test types unbinds drivers, looks into /sys and starts the binary.
"""
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "scripts"))
from imaging import files, kernel, tools  # noqa: E402

INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox --install -s /bin
export PATH=/bin PS1= PS2= FIRSTLIGHT_STATE_DIR=off
ifconfig lo 127.0.0.1 up
stty -echo
echo guest is ready
exec sh
"""
# Emulated on a busy machine a boot takes a quarter of a minute, and a minute at worst.
BOOT_S = 240


class Dead(Exception):
    pass


def make(binary, folder, modules, debian_kernel=None):
    """The kernel and the initramfs of a guest; modules are copied and not loaded."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    found = kernel.Kernel(kernel.tree(debian_kernel or "linux-image-arm64", "aarch64", ROOT / "target"), folder / "depmod")
    busybox = kernel.tree("busybox-static", "aarch64", ROOT / "target") / "bin/busybox"
    root = folder / "root"
    for name in ("bin", "dev", "proc", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    (root / "init").write_text(INIT)
    (root / "bin/busybox").write_bytes(busybox.read_bytes())
    (root / "firstlight").write_bytes(Path(binary).read_bytes())
    if missing := found.missing(modules):
        raise tools.ImageError(f"kernel {found.version} has no {', '.join(missing)}")
    found.install(modules, root)
    for name in ("init", "bin/busybox", "firstlight"):
        (root / name).chmod(0o755)
    found.copy_image(folder / "kernel")
    files.initramfs(root, folder / "initramfs", found)
    return folder


class Guest:
    """One run of it."""

    def __init__(self, folder, devices=()):
        self.process = subprocess.Popen(
            ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", "1024", "-nographic", "-net", "none",
             "-kernel", folder / "kernel", "-initrd", folder / "initramfs", "-append", "console=ttyAMA0 quiet loglevel=1", *devices],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.lines, self.number = [], 0
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self._wait(r"guest is ready", 0, BOOT_S)
        except Dead:
            self.process.kill()
            raise

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line.decode("utf-8", "replace")).strip("\r\n"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def _wait(self, pattern, since, limit):
        deadline, at = time.monotonic() + limit, since
        while time.monotonic() < deadline:
            while at < len(self.lines):
                if match := re.search(pattern, self.lines[at]):
                    return at, match
                at += 1
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise Dead(f"the guest has not said {pattern!r} in {limit} s; the last were: {' | '.join(self.lines[-8:])}")

    def run(self, command, limit=120):
        """What a command of the guest's shell prints on both outputs; fails when it does."""
        self.number += 1
        since = len(self.lines)
        self.process.stdin.write(f"{{ {command}\n}} 2>&1; code=$?; echo; echo @{self.number} $code\n".encode())
        self.process.stdin.flush()
        at, said = self._wait(rf"^@{self.number} (\d+)$", since, limit)
        text = "\n".join(self.lines[since:at]).strip()
        if said[1] != "0":
            raise Dead(f"{command}: exit {said[1]}: {text}")
        return text
