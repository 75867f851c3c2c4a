"""The binary, started on a cache of its own and looked at from outside; and how the tests of the API report.

No test of its own: `Ground` is the folder with models and pictures, `Served` one run of the binary, `Checks` the lines.
"""
import argparse
import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("FIRSTLIGHT_SHARED", ROOT / "../shared"))
GOLDEN = SHARED / "golden"
# Longest wait for a start or an end: a model without a plan makes one first, on a machine that others use too.
START_S = 90
STOP_S = 20
# The camera of every test: slow enough that a busy machine with two cores keeps it up when nothing else runs.
FPS = 10
SOURCE = f"demo:?fps={FPS}"
LOOP_SHARE_MIN = 0.8
# Models of the golden recordings, one a task, in both layouts. The shapes they know are on synth_*.png.
CLASSIC = ["g-yolov8n/1", "g-yolov8n-seg/1", "g-yolov8n-pose/1", "g-yolov8n-cls/1", "g-vit-multilabel/1"]
DEFAULT = ["g-yolov8n/2", "g-yolov8n-seg/2"]
PANIC = re.compile(r"panicked at|RUST_BACKTRACE|stack overflow|internal error: entered unreachable")


class Failed(Exception):
    pass


def expect(condition, words):
    if not condition:
        raise Failed(words)


def short(value, length=400):
    """A value as text that fits a line."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= length else f"{text[:length]}… ({len(text)} characters)"


class Checks:
    """Runs checks, prints a line for each, counts."""

    def __init__(self, only=None):
        self.only, self.passed, self.failed, self.servers = only, 0, 0, []

    def run(self, part, check, *arguments):
        """`check` is a function whose docstring says what holds."""
        name = f"{part}.{check.__name__}"
        started = time.monotonic()
        try:
            note = check(*arguments)
        # Whatever a check meets is its failure, and the next ones still run.
        except Exception as error:  # noqa: BLE001
            self.failed += 1
            # The SDK's errors are long and hold the whole picture.
            print(f"FAIL {name}: {type(error).__name__ + ': ' if not isinstance(error, Failed) else ''}"
                  f"{short(str(error), 1500)}")
            if not isinstance(error, Failed):
                where = traceback.extract_tb(error.__traceback__)
                print("     " + " < ".join(f"{Path(at.filename).name}:{at.lineno}" for at in reversed(where[-5:])))
        else:
            self.passed += 1
            doc = " ".join((check.__doc__ or "").split())
            print(f"ok   {name} ({time.monotonic() - started:.1f} s): {doc}{f' [{note}]' if note else ''}")
        sys.stdout.flush()

    def parts(self, parts, *arguments):
        """`parts`: name of a part -> its checks."""
        for part, checks in parts.items():
            if not self.only or part in self.only:
                for check in checks:
                    self.run(part, check, *arguments)

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(bool(self.failed) or self.passed == 0)


def arguments(doc, parts):
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=lambda path: Path(path).resolve(strict=True))
    parser.add_argument("--full", action="store_true", help="the long counts whole, not a seeded sample")
    parser.add_argument("--only", action="append", choices=list(parts), metavar="PART", help=", ".join(parts))
    parser.add_argument("--seed", type=int, default=6)
    return parser.parse_args()


def environment(state):
    """Ours without the caller's settings of the binary."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith("FIRSTLIGHT_") and name not in ("MODEL_CACHE_DIR", "STATE_DIRECTORY", "NOTIFY_SOCKET")}
    return {**kept, "FIRSTLIGHT_STATE_DIR": str(state)}


class Ground:
    """A folder with a cache, what is derived from it, and pictures; several servers may run on it, and the command line.

    They share the state directory, so that all of them compute with the same plans and answers can be equal to the bit.
    """

    def __init__(self, binary, *, classic=(), default=()):
        self.binary = binary
        self.folder = Path(tempfile.mkdtemp(prefix="firstlight-api-"))
        self.cache, self.state, self.pictures = (self.folder / name for name in ("cache", "state", "pictures"))
        for folder in (self.cache, self.state, self.pictures):
            folder.mkdir()
        self.parts("parts/1")
        self.golden("classic", classic)
        self.golden("models-cache", default)
        self.answers = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)

    def parts(self, model_id):
        """The demo model under this id, in classic layout."""
        package = self.cache / model_id
        package.mkdir(parents=True)
        demo = ROOT / "src/demo"
        shutil.copyfile(demo / "parts.onnx", package / "weights.onnx")
        for name in ("environment.json", "class_names.txt"):
            shutil.copyfile(demo / name, package / name)
        kind = json.loads((demo / "model_type.json").read_text())
        (package / "model_type.json").write_text(json.dumps({**kind, "model_id": model_id}))

    def golden(self, layout, ids, root=GOLDEN):
        if not ids:
            return
        tool = GOLDEN / "tools/assemble_cache.py"
        done = subprocess.run(
            [sys.executable, tool, "--root", root, "--out", self.cache, "--layout", layout, *ids],
            capture_output=True, text=True, check=False)
        expect(f"{len(ids)} model directories written" in done.stdout, f"{tool}: {done.stdout}{done.stderr}")

    def weights(self):
        """Every file of the cache with its size and time, to see that nobody touched it."""
        files = (path for path in self.cache.rglob("*") if path.is_file() and ".firstlight" not in path.parts)
        return {str(path.relative_to(self.cache)): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}

    def picture(self, name):
        """A picture of the recordings, or the demo's golden one."""
        return ROOT / "src/demo/golden.png" if name == "golden.png" else GOLDEN / "images" / name

    def keep(self, name, data):
        """Bytes as a file among the pictures."""
        path = self.pictures / name
        path.write_bytes(data)
        return path

    def infer(self, model_id, picture, **request):
        """What the command line answers to a picture, without ids and times."""
        key = (model_id, str(picture), Path(picture).stat().st_mtime_ns, json.dumps(request, sort_keys=True))
        if key not in self.answers:
            done = subprocess.run(
                [self.binary, "--cache", self.cache, "infer", "--model", model_id, "--request", json.dumps(request),
                 picture], capture_output=True, text=True, check=False, cwd=ROOT, env=environment(self.state), timeout=START_S)
            expect(done.stdout, f"infer --model {model_id} {picture}: {done.stderr}")
            self.answers[key] = bare(json.loads(done.stdout))
        return self.answers[key]


# What differs from one answer to the next of the same picture.
FLEETING = {"inference_id", "detection_id", "time", "visualization"}


def bare(answer):
    """An answer without ids, times and pictures."""
    if isinstance(answer, dict):
        return {name: bare(value) for name, value in answer.items() if name not in FLEETING}
    return [bare(value) for value in answer] if isinstance(answer, list) else answer


def b64(path):
    return base64.b64encode(Path(path).read_bytes()).decode()


def image(path):
    """A picture as the API's image object."""
    return {"type": "base64", "value": b64(path)}


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, {name.lower(): value for name, value in headers}, body

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {short(self.body.decode('utf-8', 'replace'))}"


class Served:
    """One run of the binary with the demo scene as its camera. `config` is TOML beside what is set here."""

    def __init__(self, ground, config="", *, address="127.0.0.1"):
        self.ground, self.port, self.frames, self.gaps = ground, free_port(), 0, []
        self.address, self.url = (address, self.port), f"http://{address}:{self.port}"
        self.config = ground.folder / f"{self.port}.toml"
        self.config.write_text(f'listen = "{address}:{self.port}"\ncache = "{ground.cache}"\n{config}\n'
                               f'[source]\nuri = "{SOURCE}"\n')
        self.log = ground.folder / f"{self.port}.log"

    def __enter__(self):
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [self.ground.binary, "run", "-c", self.config], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=log, cwd=ROOT, env=environment(self.ground.state))
        threading.Thread(target=self._count, daemon=True).start()
        try:
            self.ready()
        except BaseException:
            self.kill()
            raise
        return self

    def _count(self):
        """A line a frame: so the loop is watched without asking the port that the test is busy with."""
        before = time.monotonic()
        for _ in self.process.stdout:
            now = time.monotonic()
            self.frames += 1
            self.gaps.append(now - before)
            before = now

    def ready(self):
        deadline, seen = time.monotonic() + START_S, None
        while time.monotonic() < deadline:
            expect(self.process.poll() is None, f"the binary ended ({self.process.returncode}): {self.tail()}")
            try:
                seen = self.get("/readiness", limit=5)
                if seen.status == 200:
                    return
            except OSError as error:
                seen = error
            time.sleep(0.05)
        raise Failed(f"not ready after {START_S} s: {seen}: {self.tail()}")

    def __exit__(self, kind, error, _):
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            code = f"none within {STOP_S} s of SIGTERM"
        if kind is None:
            expect(code == 0, f"exit {code}: {self.tail()}")
            self.sound()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def tail(self, lines=12):
        text = self.log.read_text(errors="replace").strip().splitlines()
        return "log: " + " | ".join(line[:300] for line in text[-lines:])

    def sound(self):
        """No panic in the log."""
        found = PANIC.search(self.log.read_text(errors="replace"))
        expect(not found, f"a defect in the log: {found and found[0]}: {self.tail(30)}")

    def http(self, method, path, *, body=None, headers=None, limit=60):
        """One request; dicts are sent as JSON. Errors of HTTP are answers too."""
        headers = dict(headers or {})
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=limit) as answer:
                return Answer(answer.status, answer.getheaders(), answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers.items(), error.read())

    def get(self, path, **options):
        return self.http("GET", path, **options)

    def post(self, path, body=None, **options):
        return self.http("POST", path, body={} if body is None else body, **options)

    def metrics(self):
        """Sample name with labels -> value."""
        lines = self.get("/metrics").body.decode().splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line and line[0] != "#"}

    def memory_mb(self, field="VmRSS"):
        """Resident memory now, or with VmHWM at its highest."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)[1]) / 1024

    def open_files(self):
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    @contextmanager
    def watched(self, growth_mb):
        """What happens inside neither slows the loop below 80 % of its rate nor takes more memory than said.

        The rate to keep is that of two quiet seconds before: what this machine gives the loop today.
        """
        frames = self.frames
        time.sleep(2)
        usual = min((self.frames - frames) / 2, FPS)
        expect(usual > FPS / 4, f"the loop makes {usual:.1f} frames a second when nothing happens: {self.tail()}")
        before, started, frames, gaps = self.memory_mb(), time.monotonic(), self.frames, len(self.gaps)
        # What was highest before does not count; where this may not be reset, it does.
        try:
            Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        except OSError:
            pass
        seen = {}
        yield seen
        # A rate wants a second at least.
        time.sleep(max(0, 1 - (time.monotonic() - started)))
        seconds = time.monotonic() - started
        expect(self.process.poll() is None, f"the binary ended ({self.process.returncode}): {self.tail()}")
        rate, peak = (self.frames - frames) / seconds, self.memory_mb("VmHWM")
        # One frame may fall on either side of the window's edges.
        enough = (self.frames - frames + 1) / seconds >= LOOP_SHARE_MIN * usual
        pause = max(self.gaps[gaps:], default=seconds)
        seen["note"] = (f"loop {rate:.1f} of {usual:.1f} frames/s over {seconds:.1f} s, longest pause "
                        f"{pause * 1000:.0f} ms; memory {before:.0f} MB, at most {peak:.0f} MB")
        expect(enough, f"the loop starves: {seen['note']}")
        expect(peak <= before + growth_mb, f"more than {growth_mb} MB of memory: {seen['note']}")
        self.sound()
