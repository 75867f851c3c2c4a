"""Server info, and models loaded, listed and unloaded by the SDK. Unloading never deletes."""
from pathlib import Path

import requests
from sdk import ALIAS, ALIASED, PARTS, eventually, ids, refused
from served import expect

MISSING = "no-such-model/7"


def server_info(bench):
    """get_server_info() says name, version and uuid."""
    info = bench.client().get_server_info()
    expect(info.name and info.version and info.uuid, f"{info}")
    expect(bench.client().get_server_info() == info, "it changes from one question to the next")


def nothing_is_loaded_at_first(bench):
    """unload_all_models() leaves nothing in the registry; what is loaded on demand comes later."""
    client = bench.client()
    expect(ids(client.unload_all_models()) == [], "something stays loaded")
    expect(ids(client.list_loaded_models()) == [], "list_loaded_models() knows something")


def load_and_list(bench):
    """load_model() and list_loaded_models() describe the model: task, batch and size of its input."""
    client = bench.client()
    client.unload_all_models()
    loaded = client.load_model(PARTS)
    expect(ids(loaded) == [PARTS], f"load_model: {loaded}")
    model = client.list_loaded_models().models[0]
    expect(model.task_type == "object-detection" and (model.input_height, model.input_width) == (320, 320), f"{model}")
    expect(model.batch_size is None or model.batch_size >= 1, f"{model}")
    expect(ids(client.load_model(PARTS)) == [PARTS], "loaded twice, it is there twice")


def set_as_default(bench):
    """load_model(set_as_default=True) makes infer() need no id; unload_model() takes that back."""
    client = bench.client()
    client.load_model(PARTS, set_as_default=True)
    bench.same(client.infer(bench.picture), PARTS, bench.picture)
    client.unload_model(PARTS)
    expect(client.selected_model is None, "still selected")


def unload_one(bench):
    """unload_model() frees the one that is named and no other; again, and of an unknown id, it is no error."""
    client = bench.client()
    client.unload_all_models()
    client.load_model(PARTS)
    client.load_model("g-yolov8n-cls/1")
    expect(ids(client.unload_model(PARTS)) == ["g-yolov8n-cls/1"], "the wrong one was unloaded")
    client.unload_model(PARTS)
    client.unload_model(MISSING)
    expect(ids(client.list_loaded_models()) == ["g-yolov8n-cls/1"], "unloading nothing unloaded something")


def unloading_keeps_the_weights(bench):
    """After unload_model() and unload_all_models() every file of the cache is as it was, and infer() works again."""
    client, before = bench.client(), bench.ground.weights()
    expect(any(name.endswith("weights.onnx") for name in before), f"no weights in the cache: {before}")
    for unload in (lambda: client.unload_model(PARTS), client.unload_all_models):
        bench.same(client.infer(bench.picture, PARTS), PARTS, bench.picture)
        unload()
        expect(bench.ground.weights() == before, "the cache was touched")
    bench.same(client.infer(bench.picture, PARTS), PARTS, bench.picture)
    answer = requests.get(f"{bench.served.url}/clear_cache", timeout=60)
    expect(answer.status_code == 200 and answer.json() == "Cache Cleared", f"/clear_cache: {answer.text}")
    expect(bench.ground.weights() == before, "/clear_cache touched the cache")


def alias(bench):
    """An alias such as yolov8n-640 is the model that the SDK makes of it, in v1 and v0."""
    client = bench.client()
    expect(ALIASED in ids(client.load_model(ALIAS)), "not loaded by its alias")
    for select in (client.select_api_v1, client.select_api_v0):
        select()
        bench.same(client.infer(bench.picture, ALIAS), ALIASED, bench.picture)
    client.select_api_v1().unload_model(ALIAS)
    expect(ALIASED not in ids(client.list_loaded_models()), "not unloaded by its alias")


def alias_on_the_wire(bench):
    """A client without the SDK's table may send the alias itself."""
    answer = bench.served.post("/model/add", {"model_id": ALIAS})
    expect(answer.status == 200, f"{answer}")
    loaded = [model for model in answer.json()["models"] if model["model_id"] == ALIASED]
    expect(loaded and loaded[0]["request_aliases"] == [ALIAS], f"{loaded}")


def uncached(bench):
    """A model that is not in the cache is a 503 that says which id, which directory and which file."""
    client = bench.client()
    directory = str(Path(bench.ground.cache) / MISSING)
    for call in (lambda: client.load_model(MISSING), lambda: client.infer(bench.picture, MISSING)):
        message = refused(call, 503, MISSING, directory, "model_type.json")
    expect("Roboflow API" not in message, f"it speaks of a network: {message}")
    # A 503 is retried by the SDK in v0, which then says nothing but the status.
    refused(lambda: client.select_api_v0().infer(bench.picture, MISSING), 503)


def uncached_file(bench):
    """A package that lacks a file is a 503 that names the file, and works once the file has come."""
    package = bench.ground.cache / "half-model/1"
    bench.ground.parts("half-model/1")
    weights = package / "weights.onnx"
    weights.rename(package / "elsewhere")
    try:
        refused(lambda: bench.client().load_model("half-model/1"), 503, "half-model/1", str(package), "weights.onnx")
    finally:
        (package / "elsewhere").rename(weights)
    # What could not be loaded is not tried again at once; a few seconds later it is.
    answer = eventually(15, lambda: bench.client().infer(bench.picture, "half-model/1"))
    bench.same(answer, "half-model/1", bench.picture)


def broken(bench):
    """Weights that are no network are an error that names them, and stay on disk."""
    bench.ground.parts("broken-model/1")
    weights = bench.ground.cache / "broken-model/1/weights.onnx"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused(lambda: bench.client().load_model("broken-model/1"), 500, "Model package is broken.")
    answer = bench.served.post("/model/add", {"model_id": "broken-model/1"})
    expect(answer.status == 500 and str(weights) in answer.json()["cause"], f"{answer}")
    expect(weights.stat().st_size == 1000, "the weights are gone")


def bad_id(bench):
    """An id with two slashes is a 400 with Roboflow's words."""
    refused(lambda: bench.client().load_model("a/b/c"), 400, "Invalid Model ID sent in request.")


def start_session(bench):
    """GET /start/… loads a model, as old clients do."""
    bench.client().unload_all_models()
    answer = bench.served.get(f"/start/{PARTS}?api_key=any")
    expect(answer.status == 200 and answer.json()
           == {"status": 200, "message": "inference session started from local memory."}, f"{answer}")
    expect(PARTS in ids(bench.client().list_loaded_models()), "not loaded")


CHECKS = (server_info, nothing_is_loaded_at_first, load_and_list, set_as_default, unload_one, unloading_keeps_the_weights,
          alias, alias_on_the_wire, uncached, uncached_file, broken, bad_id, start_session)
