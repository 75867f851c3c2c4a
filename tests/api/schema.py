#!/usr/bin/env python3
"""The OpenAPI document that the binary serves, tried by schemathesis: every route with what it says it takes.

  target/sdk-venv/bin/python tests/api/schema.py BINARY [--full] [--seed N]

No answer is a 5xx but a 501 (not served here), 503 (not in the cache, or busy) and 507 (no room), and those only where
the document says so; every answer has a status, a type and a shape that the document knows. Seeded and bounded; --full
tries more. Exits 1 when something is found, with the requests that show it.
"""
import os
import re
import subprocess
import sys
from pathlib import Path

from served import Checks, Ground, Served, arguments, expect

EXAMPLES, EXAMPLES_FULL = 12, 300
RUN_S, RUN_FULL_S = 600, 7200
CHECKED = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# The rest of schemathesis' checks judge how strictly input is refused; the original takes unknown fields and wrong
# types where FastAPI does, and so do we.
CONFIG = """
[checks.not_a_server_error]
expected-statuses = ["1xx", "2xx", "3xx", "4xx", "501", "503", "507"]
"""
# Routes of Roboflow's server that the document must have.
ROUTES = """/infer/object_detection /infer/instance_segmentation /infer/keypoints_detection /infer/classification
/infer/workflows /model/registry /model/add /model/remove /model/clear /clear_cache /info /healthz /readiness /metrics
/device/stats /logs /inference_pipelines/list /inference_pipelines/initialise""".split()


def document(served, *_):
    """/openapi.json is an OpenAPI document with every route, and /docs shows it without the network."""
    answer = served.get("/openapi.json")
    expect(answer.status == 200 and answer.headers["content-type"].startswith("application/json"), f"{answer}")
    spec = answer.json()
    expect(re.match(r"3\.[01]\.", spec["openapi"]), f"openapi: {spec['openapi']}")
    missing = [route for route in ROUTES if route not in spec["paths"]]
    expect(not missing, f"without {missing}")
    # Pages and their pieces; the parameters' names are the author's.
    shapes = {re.sub(r"\{[^}]*\}", "{}", path) for path in spec["paths"]}
    wanted = {"/{}/{}", "/start/{}/{}"} | {f"/inference_pipelines/{{}}/{act}" for act in
                                           ("status", "pause", "resume", "terminate", "consume")}
    expect(wanted <= shapes, f"without {wanted - shapes}")
    page = served.get("/docs")
    expect(page.status == 200 and page.headers["content-type"].startswith("text/html"), f"{page}")
    loads = re.findall(rb"""(?:src|href)\s*=\s*["']?(https?:)?//""", page.body)
    expect(not loads, "/docs loads something from elsewhere")


def tried(served, full, seed):
    """schemathesis finds no 5xx, and no answer that the document does not know."""
    folder = served.ground.folder
    (folder / "schemathesis.toml").write_text(CONFIG)
    program = Path(sys.executable).with_name("schemathesis")
    command = [program, "--config-file", folder / "schemathesis.toml", "run", f"{served.url}/openapi.json", "--checks", CHECKED,
               "--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES_FULL if full else EXAMPLES),
               # The stream of pictures has no end to wait for; tests/http/stream.rs looks at it.
               "--exclude-path", "/stream.mjpeg",
               "--seed", str(seed), "--request-timeout", "60", "--suppress-health-check", "all",
               "--continue-on-failure", "--warnings", "off"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder,
                          timeout=RUN_FULL_S if full else RUN_S, env={**os.environ, "NO_COLOR": "1", "COLUMNS": "120"})
    if done.returncode:
        print("     " + "\n     ".join((done.stdout + done.stderr).splitlines()[-150:]))
    expect(done.returncode == 0, f"schemathesis: exit {done.returncode}")
    served.sound()
    expect(served.get("/healthz").status == 200, "/healthz")
    cases = re.search(r"([\d,]+) generated", done.stdout)
    return cases and f"{cases[1]} requests"


CHECKS = {"schema": (document, tried)}


def main():
    args = arguments(__doc__, CHECKS)
    checks = Checks(args.only)
    with Ground(args.binary) as ground, Served(ground) as served:
        # Where a generated request names the cached model, it is served.
        checks.parts(CHECKS, served, args.full, args.seed)
    checks.end()


if __name__ == "__main__":
    main()
