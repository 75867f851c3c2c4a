#!/usr/bin/env python3
"""The API through the eyes of the real SDK: `inference_sdk.InferenceHTTPClient`, unmodified, against the binary.

  target/sdk-venv/bin/python tests/api/sdk.py BINARY [--full] [--only PART]...

tests/api/venv.sh makes the Python. What the SDK returns must be what `BINARY infer` prints for the same picture. A line
a check; exits 1 when one fails.
"""
import warnings

import sdk
from sdk import configuration, infer, keys, models, pipelines, tasks
from served import CLASSIC, DEFAULT, Checks, Ground, Served, arguments

PARTS = {module.__name__.split(".")[-1]: module.CHECKS
         for module in (models, infer, configuration, tasks, keys, pipelines)}


def main():
    args = arguments(__doc__, PARTS)
    # The SDK calls its own pipelines experimental, at every call.
    warnings.simplefilter("ignore")
    checks = Checks(args.only)
    with Ground(args.binary, classic=CLASSIC, default=DEFAULT) as ground:
        ground.parts(sdk.ALIASED)
        sdk.lay_film(ground)
        with Served(ground, sdk.config(ground)) as served:
            checks.parts(PARTS, sdk.Bench(ground, served, args.full))
    checks.end()


if __name__ == "__main__":
    main()
