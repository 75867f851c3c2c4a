"""Inference by the SDK: v0 and v1, one and many pictures, in every form that it takes a picture in."""
import asyncio
import base64
import threading
from pathlib import Path

import cv2
from inference_sdk.http.utils.encoding import numpy_array_to_base64_jpeg, pillow_image_to_base64_jpeg
from PIL import Image
from sdk import FILM_FRAMES, PARTS, refused
from served import expect, short

VERSIONS = ("v0", "v1")


def clients(bench, **configuration):
    """A client of each version of the API."""
    for version in VERSIONS:
        client = bench.client(**configuration)
        yield client.select_api_v0() if version == "v0" else client.select_api_v1()


def path(bench):
    """A path: the file goes over as it is."""
    for client in clients(bench):
        answer = bench.same(client.infer(bench.picture, PARTS), PARTS, bench.picture)
        expect(answer["predictions"] and answer["inference_id"] and answer["time"] > 0, f"{short(answer)}")


def ids_are_there(bench):
    """Each prediction has a detection_id of its own, each answer an inference_id of its own."""
    client = bench.client()
    answers = [client.infer(bench.picture, PARTS) for _ in range(2)]
    found = [prediction["detection_id"] for answer in answers for prediction in answer["predictions"]]
    expect(len(set(found)) == len(found) > 2, f"{found}")
    expect(answers[0]["inference_id"] != answers[1]["inference_id"], f"{short(answers)}")


def base64_string(bench):
    """A string that is no path is base64, with or without a data URL before it."""
    text = base64.b64encode(Path(bench.picture).read_bytes()).decode()
    for client in clients(bench):
        for reference in (text, f"data:image/png;base64,{text}"):
            bench.same(client.infer(reference, PARTS), PARTS, bench.picture)


def numpy_array(bench):
    """An OpenCV array: the SDK makes a JPEG of it."""
    array = cv2.imread(bench.picture)
    kept = bench.ground.keep("numpy.jpg", base64.b64decode(numpy_array_to_base64_jpeg(array)))
    for client in clients(bench):
        bench.same(client.infer(array, PARTS), PARTS, kept)


def pil_image(bench):
    """A PIL image: the SDK makes a JPEG of it."""
    with Image.open(bench.picture) as opened:
        picture = opened.convert("RGB")
    kept = bench.ground.keep("pil.jpg", base64.b64decode(pillow_image_to_base64_jpeg(picture)))
    for client in clients(bench):
        bench.same(client.infer(picture, PARTS), PARTS, kept)


def several(bench):
    """A list of pictures of several kinds is answered in order, one request each."""
    others = [str(bench.ground.picture(name)) for name in ("synth_a.png", "astronaut.png")]
    array = cv2.imread(others[0])
    kept = bench.ground.keep("several.jpg", base64.b64decode(numpy_array_to_base64_jpeg(array)))
    given, files = [bench.picture, others[1], array], [bench.picture, others[1], kept]
    for client in clients(bench, confidence_threshold=0.1):
        answers = client.infer(given, PARTS)
        expect(len(answers) == 3, f"{len(answers)} answers")
        # v0 says 0.1 where v1 says it too: the CLI is asked for the same.
        for answer, file in zip(answers, files):
            bench.same(answer, PARTS, file, confidence=0.1)


def batch(bench):
    """With max_batch_size the pictures go in one request, and the answers come in order; with more than one request too."""
    files = [bench.picture, str(bench.ground.picture("synth_a.png")), str(bench.ground.picture("astronaut.png"))]
    for size in (2, 3, 8):
        answers = bench.client(max_batch_size=size).infer(files, PARTS)
        expect(len(answers) == 3, f"{len(answers)} answers")
        for answer, file in zip(answers, files):
            bench.same(answer, PARTS, file)


def batch_with_pictures(bench):
    """A batch with visualisation, which the original refuses by a defect of its own, is answered."""
    answers = bench.client(max_batch_size=2, visualize_predictions=True).infer([bench.picture] * 2, PARTS)
    for answer in answers:
        expect(answer["visualization"], f"{short(answer)}")
        bench.same(answer, PARTS, bench.picture)


def at_once(bench):
    """With max_concurrent_requests the SDK asks on several connections."""
    files = [bench.picture] * 6
    for client in clients(bench, max_concurrent_requests=6):
        for answer in client.infer(files, PARTS):
            bench.same(answer, PARTS, bench.picture)


def asynchronous(bench):
    """infer_async() over aiohttp gives the same."""
    for client in clients(bench):
        bench.same(asyncio.run(client.infer_async(bench.picture, PARTS)), PARTS, bench.picture)


def on_stream(bench):
    """infer_on_stream() over a folder."""
    answers = list(bench.client().infer_on_stream(str(bench.ground.pictures / "film"), PARTS))
    expect(len(answers) == FILM_FRAMES, f"{len(answers)} answers")
    expect(all(answer["predictions"] for _, _, answer in answers), f"{short(answers[0][2])}")


def first_loads(bench):
    """infer() of a model that is not loaded loads it, on either version."""
    for client in clients(bench):
        bench.client().unload_all_models()
        bench.same(client.infer(bench.picture, PARTS), PARTS, bench.picture)


def everybody_at_once(bench):
    """Sixteen clients that want the same unloaded model at once are all served, and it is loaded once."""
    bench.client().unload_all_models()
    answers, errors = [], []

    def ask():
        try:
            answers.append(bench.client().infer(bench.picture, PARTS))
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect(not errors, f"{len(errors)} errors, such as {short(str(errors[:1]))}")
    for answer in answers:
        bench.same(answer, PARTS, bench.picture)


def no_picture(bench):
    """What is no picture is a 400 with Roboflow's words."""
    for client in clients(bench):
        refused(lambda client=client: client.infer(base64.b64encode(b"hello").decode(), PARTS), 400, "input image")


def from_the_web(bench):
    """A picture by URL is refused before anything is opened: the network is not needed."""
    answer = bench.served.post("/infer/object_detection",
                               {"model_id": PARTS, "image": {"type": "url", "value": "https://example.com/a.jpg"}})
    expect(answer.status == 400 and "Could not load input image." in answer.json()["message"], f"{answer}")
    answer = bench.served.post(f"/{PARTS}?image=https://example.com/a.jpg", {})
    expect(answer.status == 400, f"{answer}")


def from_the_disk(bench):
    """A picture by file is read in the folders that the configuration names, and nowhere else."""
    kept = bench.ground.keep("inside.png", Path(bench.picture).read_bytes())
    outside = bench.ground.folder / "outside.png"
    outside.write_bytes(Path(bench.picture).read_bytes())
    link = bench.ground.pictures / "link.png"
    link.symlink_to(outside)

    def ask(value):
        return bench.served.post("/infer/object_detection",
                                 {"model_id": PARTS, "image": {"type": "file", "value": str(value)}})

    answer = ask(kept)
    expect(answer.status == 200, f"{kept}: {answer}")
    bench.same(answer.json(), PARTS, kept)
    for value in (outside, link, bench.ground.pictures / "../outside.png", "/etc/passwd", bench.ground.pictures,
                  bench.ground.pictures / "none.png", "/dev/zero", ""):
        answer = ask(value)
        expect(answer.status == 400 and "Could not load input image." in answer.json()["message"], f"{value}: {answer}")


CHECKS = (path, ids_are_there, base64_string, numpy_array, pil_image, several, batch, batch_with_pictures, at_once,
          asynchronous, on_stream, first_loads, everybody_at_once, no_picture, from_the_web, from_the_disk)
