#!/usr/bin/env python3
"""The inner loops of the NEON micro-kernels: instructions for a multiply-add, and how much of the rate of multiply-adds a
static model of the CPU expects of them.

  benches/inner_loops.py BINARY [--llvm VERSION]

BINARY is one for aarch64 with its symbols: scripts/kernels-aarch64.sh leaves one in target/kernels. Needs llvm-objdump and
llvm-mca (Debian: llvm-14 or later; 22 for what is said of Neoverse N1).
"""
import argparse
import re
import subprocess
import tempfile

# Multiply-adds of one step of each tile: four channels of pixels × vectors.
TILES = {56: "14 × 1", 80: "10 × 2", 84: "7 × 3", 96: "6 × 4"}
# LLVM knows neither CPU: both are its Cortex-A57. Neoverse N1 is the A76's core. Multiply-adds of 128 bit a cycle.
CPUS = {"cortex-a72": 1, "cortex-a76": 1, "neoverse-n1": 2}


def functions(binary, version):
    listing = subprocess.run([f"llvm-objdump-{version}", "-d", "--no-show-raw-insn", binary], check=True, text=True,
                             stdout=subprocess.PIPE).stdout
    for part in re.split(r"\n(?=[0-9a-f]+ <.*>:\n)", listing):
        if re.match(r"[0-9a-f]+ <.*4neon7KERNELS\w*3run", part):
            yield [line for line in part.splitlines() if re.match(r"\s+[0-9a-f]+:", line)]


def loops(lines):
    """What lies between a jump back and where it leads."""
    places = {int(line.split(":")[0], 16): number for number, line in enumerate(lines)}
    for number, line in enumerate(lines):
        jump = re.search(r"\t(?:b\.\w+|cbn?z|tbn?z)\s.*?0x([0-9a-f]+)", line)
        start = places.get(int(jump[1], 16)) if jump else None
        if start is not None and start < number:
            yield lines[start : number + 1]


def expected(loop, version, cpu):
    """Cycles of 100 rounds."""
    body = [re.sub(r"^\s*[0-9a-f]+:\s*", "", re.sub(r"<.*>", "", line)) for line in loop if "\tb." not in line]
    with tempfile.NamedTemporaryFile("w", suffix=".s") as file:
        file.write("\n".join(body) + "\n")
        file.flush()
        command = [f"llvm-mca-{version}", "-mtriple=aarch64", f"-mcpu={cpu}", file.name]
        said = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
    return int(re.search(r"Total Cycles:\s+(\d+)", said)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--llvm", default="22")
    options = parser.parse_args()
    found = {}
    for lines in functions(options.binary, options.llvm):
        for loop in loops(lines):
            count = sum("fmla" in line for line in loop)
            # Twice the multiply-adds is a loop around the loop.
            if count in TILES and len(loop) < 2 * count and len(loop) < len(found.get(count, 'x' * 2 * count)):
                found[count] = loop
    for count, name in TILES.items():
        loop = found[count]
        shares = [f"{cpu} {count / rate / expected(loop, options.llvm, cpu) * 1e4:.1f} %" for cpu, rate in CPUS.items()]
        stack = sum("[sp" in line for line in loop)
        print(f"{name}: {len(loop)} / {count} = {len(loop) / count:.3f}, stack {stack}; {', '.join(shares)}")


if __name__ == "__main__":
    main()
