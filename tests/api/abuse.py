#!/usr/bin/env python3
"""What a hostile network does to the API, while a camera runs: no defect, bounded memory, and the camera goes on.

  target/sdk-venv/bin/python tests/api/abuse.py BINARY [--full] [--only PART]... [--seed N]

The camera is the demo scene at ten frames a second; it must keep 80 % of the rate that it has when nothing else runs.
After each check the server answers, and rightly. A line a check; exits 1 when one fails. The short run is a seeded
sample; --full takes 10,000 connections and the long counts.
"""
from abuse import Bench, many, pictures, slow, wrong
from served import Checks, Ground, Served, arguments

PARTS = {module.__name__.split(".")[-1]: module.CHECKS for module in (slow, wrong, pictures, many)}


def main():
    args = arguments(__doc__, PARTS)
    checks = Checks(args.only)
    with Ground(args.binary) as ground, Served(ground) as served:
        bench = Bench(ground, served, args.full, args.seed)
        # The model is loaded before memory is looked at.
        bench.alive()
        checks.parts(PARTS, bench)
    checks.end()


if __name__ == "__main__":
    main()
