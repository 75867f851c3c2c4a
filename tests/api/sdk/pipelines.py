"""Pipelines by the SDK: started with a workflow of one model, listed, asked, consumed, paused, resumed, terminated."""
import time
from contextlib import contextmanager

from sdk import FILM_FRAMES, PARTS, refused
from served import bare, expect, short

PATIENCE_S = 30
DETECTOR = "roboflow_core/roboflow_object_detection_model@v2"
# As the SDK's default, which drops; as a file wants it, which waits.
EVERY_FRAME = {"source_buffer_filling_strategy": "WAIT", "source_buffer_consumption_strategy": "LAZY"}


def specification(model=PARTS, block=DETECTOR, **fields):
    """A workflow of one step."""
    return {"version": "1.0", "inputs": [{"type": "WorkflowImage", "name": "image"}],
            "steps": [{"type": block, "name": "m", "images": "$inputs.image", "model_id": model, **fields}],
            "outputs": [{"type": "JsonField", "name": "predictions", "selector": "$steps.m.predictions"}]}


@contextmanager
def started(bench, source="demo:?fps=10", workflow=None, **options):
    """A running pipeline: its client and id; terminated in the end, unless the test did."""
    client = bench.client()
    answer = client.start_inference_pipeline_with_workflow(
        video_reference=source, workflow_specification=workflow or specification(), **options)
    expect(answer["status"] == "success", f"{answer}")
    pipeline = answer["context"]["pipeline_id"]
    try:
        yield client, pipeline
    finally:
        if pipeline in client.list_inference_pipelines()["pipelines"]:
            client.terminate_inference_pipeline(pipeline)


def film(bench):
    return f"file:{bench.ground.pictures / 'film'}"


def wait(what, look):
    """Looks until there is something."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if seen := look():
            return seen
        time.sleep(0.05)
    expect(False, f"{what}: not within {PATIENCE_S} s")


def consume(client, pipeline, **options):
    """The next result there is."""
    def look():
        answer = client.consume_inference_pipeline_result(pipeline, **options)
        return answer if answer["outputs"] else None
    return wait("a result", look)


def state(client, pipeline):
    return client.get_inference_pipeline_status(pipeline)["report"]["sources_metadata"][0]["state"]


def life(bench):
    """Start, list, status, consume, terminate; then it is gone."""
    with started(bench) as (client, pipeline):
        expect(client.list_inference_pipelines()["pipelines"] == [pipeline], "not in the list")
        answer = consume(client, pipeline)
        expect(answer["status"] == "success" and answer["context"]["pipeline_id"] == pipeline, f"{short(answer)}")
        output, about = answer["outputs"][0], answer["frames_metadata"][0]
        expect(output["predictions"]["image"] == {"width": 640, "height": 480}, f"{short(output)}")
        expect(about.keys() == {"frame_timestamp", "frame_id", "source_id"} and about["source_id"] == 0, f"{about}")
        later = consume(client, pipeline)["frames_metadata"][0]["frame_id"]
        expect(later > about["frame_id"], f"frame {later} after {about['frame_id']}")
        found = [consume(client, pipeline)["outputs"][0]["predictions"]["predictions"] for _ in range(3)]
        expect(any(found) and all(one.keys() >= {"x", "y", "class", "parent_id"} for many in found for one in many),
               f"{short(found)}")
        expect(client.terminate_inference_pipeline(pipeline)["status"] == "success", "terminate")
        expect(client.list_inference_pipelines()["pipelines"] == [], "still in the list")
        refused(lambda: client.get_inference_pipeline_status(pipeline), 404, pipeline, "not_found")


def report(bench):
    """The status report has the SDK's fields: updates, latencies, throughput, sources, completions."""
    with started(bench) as (client, pipeline):
        consume(client, pipeline)

        def look():
            seen = client.get_inference_pipeline_status(pipeline)["report"]
            return seen if seen["inference_throughput"] > 0 and seen["latency_reports"] else None
        seen = wait("a throughput", look)
        source = seen["sources_metadata"][0]
        expect(source["state"] == "RUNNING" and source["source_id"] == 0, f"{source}")
        expect(source["source_properties"]["width"] == 640, f"{source}")
        events = [update["event_type"] for update in seen["video_source_status_updates"]]
        expect("SOURCE_STATE_UPDATE" in events, f"{events}")
        expect(1 < seen["inference_throughput"] < 20, f"{seen['inference_throughput']} frames/s of a source of 10")
        latency = seen["latency_reports"][0]
        expect(latency["inference_latency"] > 0 and latency["e2e_latency"] >= latency["inference_latency"], f"{latency}")
        expect(seen["completion_statistics"]["sources"][0]["completed_frames"] > 0, f"{seen['completion_statistics']}")


def pause_and_resume(bench):
    """A paused pipeline makes nothing, and goes on after."""
    with started(bench) as (client, pipeline):
        consume(client, pipeline)
        expect(client.pause_inference_pipeline(pipeline)["status"] == "success", "pause")
        wait("a pause", lambda: state(client, pipeline) in ("PAUSED", "MUTED"))

        def completed():
            statistics = client.get_inference_pipeline_status(pipeline)["report"]["completion_statistics"]
            return statistics["sources"][0]["completed_frames"]
        time.sleep(0.5)
        before = completed()
        time.sleep(1)
        expect(completed() == before, f"{completed() - before} frames while it is paused")
        expect(client.resume_inference_pipeline(pipeline)["status"] == "success", "resume")
        wait("it to run", lambda: state(client, pipeline) == "RUNNING")
        wait("another frame", lambda: completed() > before)


def values(bench):
    """Every frame of a file source comes, with what the command line says of it."""
    with started(bench, film(bench), **EVERY_FRAME) as (client, pipeline):
        expected = bench.ground.infer(PARTS, bench.picture)
        for frame in range(1, FILM_FRAMES + 1):
            answer = consume(client, pipeline)
            expect(answer["frames_metadata"][0]["frame_id"] == frame, f"frame {frame}: {answer['frames_metadata']}")
            seen = bare(answer["outputs"][0]["predictions"])
            for prediction in seen["predictions"]:
                expect(prediction.pop("parent_id"), "no parent_id")
            expect(seen == {name: expected[name] for name in ("image", "predictions")}, f"{short(seen)}")
        wait("its end", lambda: state(client, pipeline) == "ENDED")


def two_sources(bench):
    """Of two films every frame comes, beside one of the other or beside nothing, in the place of its source."""
    frames = [[], []]
    with started(bench, [film(bench), film(bench)], **EVERY_FRAME) as (client, pipeline):
        while min(map(len, frames)) < FILM_FRAMES:
            answer = consume(client, pipeline)
            expect(len(answer["outputs"]) == len(answer["frames_metadata"]) == 2, f"{short(answer)}")
            for source, (output, frame) in enumerate(zip(answer["outputs"], answer["frames_metadata"])):
                expect((output is None) == (frame is None), f"{short(answer)}")
                if frame is not None:
                    expect(frame["source_id"] == source and output["predictions"]["predictions"], f"{short(answer)}")
                    frames[source].append(frame["frame_id"])
        report = client.get_inference_pipeline_status(pipeline)["report"]
    expect(frames == [list(range(1, FILM_FRAMES + 1))] * 2, f"frames: {frames}")
    sources = [source["source_id"] for source in report["sources_metadata"]]
    expect(sources == [0, 1], f"sources of the report: {sources}")


def fields(bench):
    """Fields of the step, and parameters of the workflow, change the answer."""
    workflow = specification(confidence="$inputs.conf", max_detections=1)
    workflow["inputs"].append({"type": "WorkflowParameter", "name": "conf", "default_value": 0.2})
    for parameters, confidence in ((None, 0.2), ({"conf": 0.95}, 0.95)):
        with started(bench, film(bench), workflow, workflows_parameters=parameters, **EVERY_FRAME) as (client, pipeline):
            expected = bench.ground.infer(PARTS, bench.picture, confidence=confidence, max_detections=1)
            seen = bare(consume(client, pipeline)["outputs"][0]["predictions"])["predictions"]
            expect([one["confidence"] for one in seen] == [one["confidence"] for one in expected["predictions"]],
                   f"{parameters}: {short(seen)}")


def excluded(bench):
    """excluded_fields leaves a field out."""
    with started(bench) as (client, pipeline):
        answer = consume(client, pipeline, excluded_fields=["predictions"])
        expect(answer["outputs"][0] == {}, f"{short(answer)}")


def buffer_is_bounded(bench):
    """With nobody consuming, a buffer of four keeps four: the newest."""
    with started(bench, "demo:?fps=50", results_buffer_size=4) as (client, pipeline):
        time.sleep(2)
        frames = []
        while answer := client.consume_inference_pipeline_result(pipeline):
            if not answer["outputs"] or len(frames) > 20:
                break
            frames.append(answer["frames_metadata"][0]["frame_id"])
        expect(frames and frames[0] > 8, f"the oldest of the buffer is frame {frames[:1]} after two seconds")


def max_fps(bench):
    """max_fps holds a live source back."""
    with started(bench, "demo:?fps=50", max_fps=5) as (client, pipeline):
        consume(client, pipeline)

        def completed():
            statistics = client.get_inference_pipeline_status(pipeline)["report"]["completion_statistics"]
            return statistics["sources"][0]["completed_frames"]
        before = completed()
        time.sleep(3)
        seen = (completed() - before) / 3
        expect(2 <= seen <= 7, f"{seen:.1f} frames/s")


def several(bench):
    """Eight at once, each costing megabytes and no process; a ninth is refused until one ends."""
    client, before = bench.client(), bench.served.memory_mb()
    begin = {"video_reference": "demo:?fps=1", "workflow_specification": specification()}
    ids = [client.start_inference_pipeline_with_workflow(**begin)["context"]["pipeline_id"] for _ in range(8)]
    try:
        expect(sorted(client.list_inference_pipelines()["pipelines"]) == sorted(ids), "the list")
        for pipeline in ids:
            consume(client, pipeline)
        grown = (bench.served.memory_mb() - before) / 8
        expect(grown < 32, f"{grown:.0f} MB a pipeline")
        try:
            extra = client.start_inference_pipeline_with_workflow(**begin)
        except Exception as error:  # noqa: BLE001
            expect("8" in str(error), f"the refusal does not name the limit: {error}")
        else:
            ids.append(extra["context"]["pipeline_id"])
            expect(False, "a ninth pipeline was started")
    finally:
        for pipeline in ids:
            client.terminate_inference_pipeline(pipeline)
    expect(client.list_inference_pipelines()["pipelines"] == [], "some are left")
    return f"{grown:.1f} MB a pipeline"


def refusals(bench):
    """What cannot be had is refused by name: workflows of more, other blocks, sources that are not allowed."""
    def start(workflow=None, source="demo:", **options):
        return lambda: bench.client().start_inference_pipeline_with_workflow(
            video_reference=source, workflow_specification=workflow or specification(), **options)

    two = specification()
    two["steps"].append({"type": "roboflow_core/property_definition@v1", "name": "cnt", "data": "$steps.m.predictions",
                         "operations": [{"type": "SequenceLength"}]})
    refused(start(two), 501, "property_definition")
    refused(start(specification(block="roboflow_core/clip@v1")), 501, "clip")
    refused(lambda: bench.client().start_inference_pipeline_with_workflow(
        video_reference="demo:", workspace_name="my-ws", workflow_id="my-flow"), 501)
    outside = bench.ground.folder / "film"
    outside.mkdir(exist_ok=True)
    for source in (f"file:{outside}", str(outside), "/etc/passwd", "/dev/zero", "", ["demo:"] * 9,
                   f"file:{bench.ground.pictures}/../film"):
        refused(start(source=source), 400)
    for source in ("rtsp://127.0.0.1/a", "http://127.0.0.1/a.mp4"):
        refused(start(source=source), 400, "serving.streams")
    refused(start(source=str(bench.ground.pictures / "a.mp4")), 400, "no such file")
    refused(start(source="rtmp://127.0.0.1/a"), 501, "video_reference")
    refused(start(specification(model="no-such-model/7")), 503, "no-such-model/7")
    refused(start(specification(model="a/b/c")), 400)
    expect(bench.client().list_inference_pipelines()["pipelines"] == [], "a refused one is in the list")


def unknown(bench):
    """Every question about an unknown pipeline is Roboflow's 404."""
    client = bench.client()
    for ask in (client.get_inference_pipeline_status, client.pause_inference_pipeline, client.resume_inference_pipeline,
                client.terminate_inference_pipeline, client.consume_inference_pipeline_result):
        refused(lambda ask=ask: ask("nope"), 404, "Could not find InferencePipeline with id=nope.")


CHECKS = (life, report, pause_and_resume, values, two_sources, fields, excluded, buffer_is_bounded, max_fps, several, refusals,
          unknown)
