#!/usr/bin/env python3
"""Every recorded exchange of the real server, asked of the binary and compared field by field.

  target/sdk-venv/bin/python tests/api/replay.py BINARY [--only classic|default|sdk-classic|sdk-default]...

Compared are status, content type, the names of the x-* headers and the values of those that say something, and in the
body the set and the types of the fields, nulls where nulls are, and every value that does not come from the model or
the clock. The recordings' model is not there, nor its picture: a golden detector of the same size stands in under the
same id. What differs on purpose is in differences.py, with the reason. A line an exchange; exits 1 when one fails.
"""
import json
import re
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from differences import ANY_TEXT, DEFAULT_DIFFERENCES, DIFFERENCES, Difference
from served import GOLDEN, SHARED, Checks, Ground, Served, arguments, b64, expect, short

EXAMPLES = SHARED / "roboflow/examples"
MODEL = "my-project/3"
PICTURE = "synth_a.png"
# The order of the recording, as the registry's `request_paths` show it.
DIRECT = """readiness healthz get_root_info registry_empty infer_od_first registry_loaded infer_od model_add metrics
infer_od_batch infer_od_visualize infer_class_filter infer_conf_string infer_bad_image infer_bad_type infer_bad_model_id
infer_missing_model infer_no_model infer_url_offline infer_wrong_task v0_post v0_post_nokey v0_multipart v0_format_image
device_stats notfound pipelines_list workflow_by_id_missing workflow_run_adhoc workflows_validate workflows_versions
model_remove model_remove_again model_clear""".split()
SDK = {
    "sdk-classic": """get_server_info list_loaded_models_empty load_model list_loaded_models infer_v1
infer_v1_batch_configured infer_v0 infer_v0_image infer_v1_header_auth infer_missing infer_alias run_workflow_named
run_workflow_spec clip_compare clip_image_embeddings ocr_image pipelines_list_empty unload_model unload_all_models
pipeline_status_unknown""".split(),
    "sdk-default": """run_workflow_named_offline infer_v1_models_engine pipeline_start pipelines_list pipeline_status
pipeline_consume pipeline_pause pipeline_status_paused pipeline_resume pipeline_terminate pipeline_status_after""".split(),
}
PARTS = ("classic", "default", *SDK)
# Values that come from the model, the picture, the clock or chance; their types are compared.
VARYING = set("""inference_id time x y width height confidence class class_id detection_id uuid request_id pipeline_id
model_package_id visualization timestamp frame_timestamp timestamp_created sampled_at_monotonic frame_id last_frame_id
last_completed_at_monotonic completed_frames frame_decoding_latency inference_latency e2e_latency inference_throughput
total_frames fps source_reference buffer_size pipelines""".split())
ELIDED = re.compile(r"\.\.\.<\d+ chars>$")
HEADER_VALUES = {
    "content-type": None, "vary": None, "x-model-id": None, "x-model-cold-start": None, "x-model-cold-start-count": None,
    "x-request-id": r"[0-9a-f]{32}", "x-inference-engine": r"firstlight", "x-model-load-time": r"\d+(\.\d+)?(e-?\d+)?",
    "x-model-load-details": r'\[\{"m": ?"my-project/3", ?"t": ?\d+(\.\d+)?(e-?\d+)?\}\]',
}


def unlike(recorded, ours, ignore=(), at="body"):
    """What differs, a line each."""
    name = at.rsplit(".", 1)[-1]
    if isinstance(recorded, dict) and isinstance(ours, dict):
        # Beside the words of an error there may be what we know of it.
        known = set(recorded) | ({"cause"} if "message" in recorded else set())
        found = [f"{at}: without {key}" for key in recorded if key not in ours and key not in ignore]
        found += [f"{at}: with {key}" for key in ours if key not in known and key not in ignore]
        for key in recorded.keys() & ours.keys() - set(ignore):
            found += unlike(recorded[key], ours[key], ignore, f"{at}.{key}")
        return found
    if isinstance(recorded, list) and isinstance(ours, list):
        return unlike_lists(recorded, ours, ignore, at)
    # The recorded network takes any number of pictures at once, the golden one takes one.
    if name == "batch_size":
        return [] if ours is None or kind(ours) == "whole number" else [f"{at}: {ours}"]
    kinds = {kind(recorded), kind(ours)}
    if len(kinds) > 1:
        return [f"{at}: {short(ours, 80)} is no {kind(recorded)} as {short(recorded, 80)} is"]
    if name in VARYING or recorded == ANY_TEXT or (isinstance(recorded, str) and ELIDED.search(recorded)):
        return [] if ours != "" else [f"{at}: empty"]
    return [] if recorded == ours else [f"{at}: {short(ours, 200)}, recorded is {short(recorded, 200)}"]


def unlike_lists(recorded, ours, ignore, at):
    """Each of ours is like one of the recorded; texts are a set."""
    if bool(recorded) != bool(ours):
        return [f"{at}: {len(ours)} elements, recorded are {len(recorded)}"]
    if all(isinstance(one, str) for one in recorded + ours) and at.rsplit(".", 1)[-1] not in VARYING:
        return [] if sorted(recorded) == sorted(ours) else [f"{at}: {ours}, recorded is {recorded}"]
    found = []
    for index, one in enumerate(ours):
        found += min((unlike(other, one, ignore, f"{at}[{index}]") for other in recorded), key=len, default=[])
    return found


def kind(value):
    names = {bool: "truth value", int: "whole number", float: "decimal number", str: "text", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def unlike_headers(recorded, ours, difference):
    """Names of the x-* headers, and the values that say something."""
    told = {name for name in recorded if name.startswith("x-")} | {"content-type", "vary"}
    free = set(difference.headers)
    if difference.response is not None:
        free.add("content-length")
    found = [f"without header {name}" for name in told - set(ours) - free]
    found += [f"with header {name}" for name in ours if name.startswith("x-") and name not in told | free]
    for name in (told & set(ours)) - free:
        pattern = HEADER_VALUES[name] if HEADER_VALUES[name] else re.escape(recorded[name])
        # FastAPI names no charset, and neither do we need to; a value of ours is one pattern, whole.
        if not re.fullmatch(pattern, ours[name]):
            found.append(f"header {name}: {short(ours[name], 120)}, recorded is {recorded[name]}")
    return found


class Replay:
    """One server under replay. What is learned from answers, such as a pipeline's id, goes into what is asked next."""

    def __init__(self, ground, served, part):
        self.ground, self.served, self.part = ground, served, part
        self.picture = b64(ground.picture(PICTURE))
        self.renamed = {}

    def replay(self, name, exchange):
        difference = DIFFERENCES.get(name, Difference(""))
        if self.part == "default":
            difference = DEFAULT_DIFFERENCES.get(name, difference)
        answer = self.ask(name, exchange)
        status = difference.status or exchange["status"]
        expect(answer.status == status, f"status {answer.status}, not {status}: {answer!r}")
        recorded = exchange["response"] if difference.response is None else difference.response
        found = unlike_headers(exchange["response_headers"], answer.headers, difference)
        if name == "metrics":
            found += unlike_metrics(answer.body.decode())
        elif isinstance(recorded, str) and recorded.startswith("<"):
            found += [] if answer.body[:2] == b"\xff\xd8" else ["no JPEG"]
        else:
            found += self.unlike_body(recorded, answer, difference)
        expect(not found, "; ".join(found[:12]))
        return difference.why

    def unlike_body(self, recorded, answer, difference):
        body, text = answer.json(), json.dumps(recorded)
        for old, new in self.renamed.items():
            text = text.replace(old, new)
        recorded = json.loads(text)
        found = [] if self.picture[:200] not in answer.body.decode() else ["the picture is echoed"]
        if difference.words:
            recorded = {"message": ANY_TEXT}
            missing = [word for word in difference.words if word.lower() not in str(body.get("message")).lower()]
            found += [f"message without {word}: {short(body)}" for word in missing]
        return found + unlike(recorded, body, difference.ignore)

    def ask(self, name, exchange):
        request = exchange["request"]
        if "path" in request:
            path, body = request["path"], self.filled(request["json"])
            if request["params"]:
                path += "?" + urlencode(request["params"])
        else:
            url = urlsplit(request["url"])
            path, body = url.path + (f"?{url.query}" if url.query else ""), self.filled(request["body"])
        kept = ("authorization", "content-type")
        headers = {key: value for key, value in request.get("headers", {}).items() if key.lower() in kept}
        for old, new in self.renamed.items():
            path = path.replace(old, new)
        if path.startswith(f"/{MODEL}"):
            body, headers = self.v0_body(name, headers)
        if name == "sdk_pipeline_start":
            return self.start(path, body)
        if name in ("sdk_pipeline_status", "sdk_pipeline_consume"):
            return self.until_there_is_something(request["method"], path, body, headers)
        if name == "sdk_pipeline_status_paused":
            time.sleep(0.5)
        if body is None and request["method"] == "POST":
            body = b""
        return self.served.http(request["method"], path, body=body, headers=headers)

    def filled(self, body):
        """A request's body with our picture for the one that was elided."""
        if isinstance(body, dict):
            return {key: self.filled(value) for key, value in body.items()}
        if isinstance(body, list):
            return [self.filled(value) for value in body]
        return self.picture if isinstance(body, str) and ELIDED.search(body) else body

    def v0_body(self, name, headers):
        if name != "v0_multipart":
            return self.picture.encode(), headers or {"Content-Type": "application/x-www-form-urlencoded"}
        data = self.ground.picture(PICTURE).read_bytes()
        head = 'Content-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png'
        body = f"--part\r\n{head}\r\n\r\n".encode() + data + b"\r\n--part--\r\n"
        return body, {"Content-Type": "multipart/form-data; boundary=part"}

    def start(self, path, body):
        """The recorded start, with the step left out that is no model, and pictures for the film."""
        workflow = body["processing_configuration"]["workflow_specification"]
        workflow["steps"] = [step for step in workflow["steps"] if "model_id" in step]
        workflow["outputs"] = [output for output in workflow["outputs"] if output["name"] == "predictions"]
        body["video_configuration"]["video_reference"] = f"file:{self.ground.pictures}?loop=true"
        answer = self.served.post(path, body)
        if answer.status == 200:
            self.renamed["8d6a980d-51ff-4bb0-bfe1-42f72ae27d8d"] = answer.json()["context"]["pipeline_id"]
        return answer

    def until_there_is_something(self, method, path, body, headers):
        """The recording was made when the pipeline had run a while."""
        deadline = time.monotonic() + 20
        while True:
            answer = self.served.http(method, path, body=body, headers=headers)
            document = answer.json()
            there = document.get("outputs") or document.get("report", {}).get("latency_reports")
            if there or answer.status != 200 or time.monotonic() > deadline:
                return answer
            time.sleep(0.1)


def unlike_metrics(text):
    """The recorded names, but Python's and those that a client library makes up."""
    families = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
    samples = {re.split(r"[ {]", line)[0] for line in text.splitlines() if line and line[0] != "#"}
    recorded = (EXAMPLES / "metrics.txt").read_text().splitlines()
    wanted = {line.split()[2] for line in recorded if line.startswith("# TYPE ")}
    wanted = {name for name in wanted if not name.startswith("python_") and not name.endswith("_created")}
    known = families | samples | {re.sub(r"_total$", "", name) for name in samples}
    return [f"without metric {name}" for name in sorted(wanted) if name not in known]


def lay(ground, layout):
    """A golden detector of the recorded one's size in the place of the recorded one."""
    text = (GOLDEN / "caches/g-yolov8n_1.json").read_text()
    slug = json.loads(text)["models_cache"]["slug"]
    tree = (EXAMPLES / "cache_models_cache_layout.tree.txt").read_text()
    text = text.replace("g-yolov8n/1", MODEL).replace(slug, re.search(r"models-cache/(v2-[^/]+)/", tree)[1])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "caches").mkdir()
        (root / "caches/recorded.json").write_text(text)
        (root / "models").symlink_to((GOLDEN / "models").resolve())
        ground.golden(layout, [MODEL], root=root)
    ground.keep("film.png", ground.picture(PICTURE).read_bytes())


def steps(part):
    """Name and exchange of each step, and the files they are from."""
    if part in SDK:
        for name in SDK[part]:
            for index, exchange in enumerate(json.loads((EXAMPLES / f"sdk_{name}.json").read_text())):
                yield f"sdk_{name}" + (f"#{index}" if index else ""), exchange
    else:
        for name in DIRECT:
            yield name, json.loads((EXAMPLES / f"{part}_engine/{name}.json").read_text())


def nothing_forgotten():
    """Every recording is replayed, and every difference is of a recording."""
    for folder in ("classic_engine", "default_engine"):
        there = {path.stem for path in (EXAMPLES / folder).glob("*.json")}
        expect(there == set(DIRECT), f"{folder}: {there ^ set(DIRECT)}")
    there = {path.stem.removeprefix("sdk_") for path in EXAMPLES.glob("sdk_*.json")}
    expect(there == set(sum(SDK.values(), [])), f"sdk: {there ^ set(sum(SDK.values(), []))}")
    known = {name for part in PARTS for name, _ in steps(part)}
    expect(set(DIFFERENCES) <= known, f"differences of nothing: {set(DIFFERENCES) - known}")


def deviations(value):
    """The value with one thing wrong, for each thing in it that is compared."""
    if isinstance(value, dict):
        for key in value:
            if key not in VARYING and key != "batch_size":
                yield {**value, key: {"another": "shape"}}
            yield {name: other for name, other in value.items() if name != key}
            for other in deviations(value[key]) if key != "batch_size" else ():
                yield {**value, key: other}
        yield {**value, "unheard of": 1}
    elif isinstance(value, list) and value and not isinstance(value[0], str):
        yield []
        for other in deviations(value[0]):
            yield [other] * len(value)
    elif isinstance(value, float):
        yield int(value)
    elif value is None:
        yield "something"
    else:
        yield None


def deviations_are_found():
    """The comparison finds each field that is missing, new, of another type or null in a recorded answer, and no other."""
    count = 0
    for part in PARTS:
        for name, exchange in steps(part):
            recorded = exchange["response"]
            if not isinstance(recorded, str):
                expect(not unlike(recorded, recorded), f"{name}: unlike itself: {unlike(recorded, recorded)[:3]}")
                for wrong in deviations(recorded):
                    count += 1
                    expect(unlike(recorded, wrong), f"{name}: not found in {short(wrong)}")
    return f"{count} deviations"


def main():
    args = arguments(__doc__, PARTS)
    checks = Checks(args.only)
    checks.run("replay", nothing_forgotten)
    checks.run("replay", deviations_are_found)
    for part in args.only or PARTS:
        with Ground(args.binary) as ground:
            lay(ground, "models-cache" if "default" in part else "classic")
            with Served(ground, f'[serving.images]\ndirs = ["{ground.pictures}"]\n') as served:
                replay = Replay(ground, served, part)
                for name, exchange in steps(part):
                    def step(name=name, exchange=exchange):
                        return replay.replay(name, exchange)
                    step.__name__, step.__doc__ = name, f"{exchange['request']['method']}, {exchange['status']}"
                    checks.run(part, step)
    checks.end()


if __name__ == "__main__":
    main()
