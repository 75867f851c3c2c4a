#!/usr/bin/env python3
"""The inner loops of the NEON micro-kernels: instructions for a multiply-add, and how much of the rate of multiply-adds a
static model of the CPU expects of them.

  benches/inner_loops.py BINARY [--llvm VERSION]

BINARY is one for aarch64 with its symbols and without checks: scripts/kernels-aarch64.sh leaves one in target/kernels, with
CARGO_PROFILE_DEV_DEBUG_ASSERTIONS=false and CARGO_PROFILE_DEV_OVERFLOW_CHECKS=false in its environment. Needs llvm-objdump
and llvm-mca (Debian: llvm-14 or later; 22 for what is said of Neoverse N1).
"""
import argparse
import re
import subprocess
import tempfile

# Tables of micro-kernels, and the multiply-adds of one step of each tile: four channels of pixels × vectors; of halves eight.
TABLES = {
    "7NUMBERS": {56: "14 × 1", 80: "10 × 2", 84: "7 × 3", 96: "6 × 4"},
    "4FP16": {96: "12 × 1 of halves", 160: "10 × 2 of halves", 168: "7 × 3 of halves", 192: "6 × 4 of halves"},
}
# LLVM knows neither CPU: both are its Cortex-A57. Neoverse N1 is the A76's core. Multiply-adds of 128 bit a cycle.
CPUS = {"cortex-a72": 1, "cortex-a76": 1, "neoverse-n1": 2}
# Of halves the Cortex-A57, which has none, says nothing.
CPUS_OF = {"7NUMBERS": CPUS, "4FP16": {"neoverse-n1": 2}}


def disassembled(binary, version):
    return subprocess.run([f"llvm-objdump-{version}", "-d", "--no-show-raw-insn", binary], check=True, text=True,
                          stdout=subprocess.PIPE).stdout


def functions(listing, table):
    for part in re.split(r"\n(?=[0-9a-f]+ <.*>:\n)", listing):
        if re.match(rf"[0-9a-f]+ <.*4neon{table}\w*3run", part):
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
        command = [f"llvm-mca-{version}", "-mtriple=aarch64", f"-mcpu={cpu}", "-mattr=+fullfp16", file.name]
        said = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
    return int(re.search(r"Total Cycles:\s+(\d+)", said)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--llvm", default="22")
    options = parser.parse_args()
    listing = disassembled(options.binary, options.llvm)
    for table, tiles in TABLES.items():
        report(functions(listing, table), tiles, CPUS_OF[table], options.llvm)


def report(functions, tiles, cpus, version):
    found = {}
    for lines in functions:
        for loop in loops(lines):
            count = sum("fmla" in line for line in loop)
            # Twice the multiply-adds is a loop around the loop.
            if count in tiles and len(loop) < 2 * count and len(loop) < len(found.get(count, 'x' * 2 * count)):
                found[count] = loop
    for count, name in tiles.items():
        if count not in found:
            raise SystemExit(f"{name}: no such loop; was the binary built without checks?")
        loop = found[count]
        shares = [f"{cpu} {count / rate / expected(loop, version, cpu) * 1e4:.1f} %" for cpu, rate in cpus.items()]
        stack = sum("[sp" in line for line in loop)
        print(f"{name}: {len(loop)} / {count} = {len(loop) / count:.3f}, stack {stack}; {', '.join(shares)}")


if __name__ == "__main__":
    main()
