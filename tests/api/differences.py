"""Where our answers to the recorded exchanges differ from the original's on purpose, and why. Everything else must match.

The keys are the recordings' names; NAME#1 is the second exchange of a recording.
"""
from dataclasses import dataclass

# Any number, any text: only its type is compared.
ANY_TEXT = "<any text>"


@dataclass(frozen=True)
class Difference:
    why: str
    # Instead of the recorded ones, where given.
    status: int | None = None
    response: object = None
    # What `message` says instead: each of these words.
    words: tuple = ()
    # Names in the recorded answer that are not compared, at any depth.
    ignore: tuple = ()
    # Headers that may be there or not, in any value.
    headers: tuple = ()


UNCACHED = "no network is spoken of: the message names the id, the directory and the file that is missing"
WORKFLOWS = "there is no workflow engine yet: a clear 501 that says so"
CORE = "core models are not served: a 501 that names the model, where the original calls an absent package broken"
LOADED_ELSEWHERE = "the recorded registry was filled by a workflow, which is a 501 here"
SIZES = "we know the network's size in this layout too, where the default engine says null"
PYTHON = "the figures of Python's collector are not ours to give; no gzip for a kilobyte; the text format's own version"
DOCKER = "no Docker here, and no need of it: the board's own figures"


def missing(model_id):
    return Difference(UNCACHED, words=(model_id, "model_type.json"), headers=("retry-after",))


def unserved(why, *words):
    return Difference(why, status=501, response={"message": ANY_TEXT}, words=words, headers=("x-model-id",) + LOADED)


# Of an answer whose model was just loaded.
LOADED = ("x-model-cold-start", "x-model-cold-start-count", "x-model-load-time", "x-model-load-details")

DIFFERENCES = {
    "get_root_info": Difference("it is another server, and says so", ignore=("name", "version", "uuid")),
    "sdk_get_server_info": Difference("it is another server, and says so", ignore=("name", "version", "uuid")),
    "device_stats": Difference(DOCKER, status=200, response={},
        ignore=("board", "processors", "uptime_s", "memory_used_mb", "memory_total_mb")),
    "metrics": Difference(PYTHON, headers=("content-type", "content-encoding")),
    "infer_missing_model": missing("no-such/1"),
    "sdk_infer_missing#1": missing("nope/1"),
    "sdk_infer_alias#1": missing("coco/3"),
    "infer_no_model": Difference("a 422 never echoes what was sent", response={
        "detail": [{"type": "missing", "loc": ["body", "model_id"], "msg": "Field required"}]}),
    "infer_url_offline": Difference("the same words; a cause beside them is allowed"),
    "pipelines_list": Difference("pipelines are always there: no body is needed to list them", status=200, response={
        "status": "success", "context": {"request_id": ANY_TEXT, "pipeline_id": None}, "pipelines": []}),
    "sdk_infer_v1_batch_configured#1": Difference(
        "the original fails to draw on a list of pictures by a defect of its own; here they are drawn", status=200,
        response=[{"inference_id": ANY_TEXT, "time": 0.1, "resolved_model": {"model_id": "my-project/3"},
                   "image": {"width": 1, "height": 1}, "visualization": ANY_TEXT, "predictions": [
                       {"x": 1.5, "y": 1.5, "width": 1.5, "height": 1.5, "confidence": 0.5, "class": ANY_TEXT, "class_id": 1,
                        "detection_id": ANY_TEXT}]}]),
    "workflow_by_id_missing": unserved(WORKFLOWS, "orkflow"),
    "workflow_run_adhoc": unserved(WORKFLOWS, "orkflow"),
    "workflows_validate": unserved(WORKFLOWS, "orkflow"),
    "workflows_versions": unserved(WORKFLOWS, "orkflow"),
    "sdk_run_workflow_named": unserved(WORKFLOWS, "orkflow"),
    "sdk_run_workflow_named#1": unserved(WORKFLOWS, "orkflow"),
    "sdk_run_workflow_named#2": unserved(WORKFLOWS, "orkflow"),
    "sdk_run_workflow_named_offline": unserved(WORKFLOWS, "orkflow"),
    "sdk_run_workflow_spec": unserved(WORKFLOWS, "orkflow"),
    "sdk_clip_compare": unserved(CORE, "clip"),
    "sdk_clip_image_embeddings": unserved(CORE, "clip"),
    "sdk_ocr_image": unserved(CORE, "doctr"),
    "sdk_infer_v1_models_engine": Difference(LOADED_ELSEWHERE, ignore=("models",)),
    "sdk_infer_v1_models_engine#1": Difference("the model is loaded by this request, not by a workflow before it", headers=LOADED),
    "sdk_pipeline_consume": Difference("the workflow of the recording counts too; ours is of the model alone", ignore=("count",)),
    "sdk_pipeline_terminate": Difference(
        "the original ends the pipeline and then answers 400, by a defect of its own", status=200,
        response={"status": "success", "context": {"request_id": ANY_TEXT, "pipeline_id": ANY_TEXT}}),
}
# Of the default engine's recordings alone.
DEFAULT_DIFFERENCES = {name: Difference(SIZES, ignore=("input_height", "input_width"))
                       for name in ("registry_loaded", "model_add")}
