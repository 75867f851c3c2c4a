#!/usr/bin/env python3
"""Executed instructions an inference of the aarch64 binary, engine by engine, without a board:

  benches/instructions.py BINARY MODEL.onnx... [--engine NAME]... [--cpu cortex-a72] [--kernel DEB|DIR|PACKAGE]

Boots Debian's kernel in QEMU with the binary as the first process, which runs `firstlight bench --json` and ends, and the
machine with it. Under `-icount shift=0` the virtual clock goes on by 1 ns an instruction, so what the binary measures in
milliseconds are millions of instructions: all of them, those of the kernel in between too (its tick, page faults: below 0.1 %).
A line of JSON an engine and model; and the quotient of the first two engines. Needs the Debian package qemu-system-arm.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
from imaging import files, kernel  # noqa: E402

# The part number by which tract would know the CPU from /proc/cpuinfo, which nobody mounts here.
KINDS = {"cortex-a53": "a53", "cortex-a55": "a55", "cortex-a72": "a72", "cortex-a76": "generic"}


def newest_kernel(given):
    """The path of a kernel's image: given, or in a Debian package."""
    if Path(given).is_file() and not given.endswith(".deb"):
        return Path(given)
    tree = kernel.tree(given, "aarch64", ROOT / "target")
    return sorted((tree / "boot").glob("vmlinuz-*"))[-1]


def archive(path, contents):
    """An initial file system of files, folders for them, and the console that the kernel gives to the first process."""
    with open(path, "wb") as to:
        folders = {str(parent) for name in contents for parent in Path(name).parents} - {"."}
        for number, name in enumerate(sorted(folders | {"dev"}), 1):
            files.newc(to, number, name, 0o040755)
        files.newc(to, 999, "dev/console", 0o020600, device=(5, 1))
        for number, (name, source) in enumerate(contents.items(), 1000):
            files.newc(to, number, name, 0o100755, Path(source).read_bytes())
        files.newc(to, 0, "TRAILER!!!", 0)


def boot(image, initramfs, cpu, arguments, echo):
    """What the binary writes as the first process with these arguments."""
    append = f"console=ttyAMA0 quiet loglevel=1 panic=-1 TRACT_CPU_AARCH64_KIND={KINDS.get(cpu, 'generic')} "
    command = ["qemu-system-aarch64", "-M", "virt", "-cpu", cpu, "-smp", "1", "-m", "2048", "-icount", "shift=0,sleep=off",
               "-nographic", "-nodefaults", "-serial", "stdio", "-no-reboot", "-kernel", image, "-initrd", initramfs,
               "-append", append + "rdinit=/firstlight -- " + " ".join(arguments)]
    lines = []
    # Without an idle machine's leaps in time: it is never idle before the binary ends.
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace") as qemu:
        for line in qemu.stdout:
            lines.append(line.rstrip())
            if echo:
                print(line.rstrip(), flush=True)
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path)
    parser.add_argument("model", type=Path, nargs="+")
    parser.add_argument("--engine", action="append")
    parser.add_argument("--cpu", default="cortex-a72")
    parser.add_argument("--kernel", default="linux-image-arm64")
    parser.add_argument("--iterations", default="1")
    parser.add_argument("--echo", action="store_true", help="everything that the machine writes")
    options = parser.parse_args()
    image, failed = newest_kernel(options.kernel), False
    for model in options.model:
        counted = []
        with tempfile.TemporaryDirectory() as folder:
            initramfs = Path(folder) / "initramfs"
            inside = re.sub(r"[^\w.-]", "_", model.name)
            archive(initramfs, {"firstlight": options.binary, inside: model})
            for engine in options.engine or ["plan", "tract"]:
                arguments = ["bench", "--onnx", f"/{inside}", "--engine", engine, "--threads", "1",
                             "--iterations", options.iterations, "--json"]
                lines = boot(image, initramfs, options.cpu, arguments, options.echo)
                found = [line for line in lines if line.startswith("{")]
                if not found:
                    print(f"{model.name} {engine}: no figures: {' | '.join(lines[-5:])}", file=sys.stderr)
                    failed = True
                    continue
                counted.append(float(json.loads(found[-1])["min_ms"]))
                print(json.dumps({"model": model.stem, "engine": engine, "cpu": options.cpu,
                                  "million_instructions": round(counted[-1], 1)}), flush=True)
        if len(counted) > 1:
            print(json.dumps({"model": model.stem, "quotient": round(counted[0] / counted[1], 3)}), flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
