"""What the parts of tests/api/abuse.py share."""
import base64
import json
from pathlib import Path

from served import FPS, expect
from wire import post

MODEL, PICTURE = "parts/1", "golden.png"
# The loop's memory may grow by this under abuse, MB: bodies of all requests together are bounded at 96; two workers
# decode a picture each, of at most 50 million pixels of three bytes and as much again while it is decoded; the rest is
# 256 connections with their buffers and what an allocator keeps.
BODIES_MB, PICTURE_MB, REST_MB = 96, 150, 64
GROWTH_MB = BODIES_MB + 2 * 2 * PICTURE_MB + REST_MB
# Where no picture is large.
GROWTH_SMALL_MB = BODIES_MB + REST_MB


class Bench:
    def __init__(self, ground, served, full, seed):
        self.ground, self.served, self.full, self.seed = ground, served, full, seed
        self.address, self.picture = served.address, ground.picture(PICTURE)
        self.small = small_picture()

    def request(self, picture=None, **fields):
        """A valid request to detect, as bytes on the wire."""
        data = picture if picture is not None else self.small
        image = {"type": "base64", "value": base64.b64encode(data).decode()}
        return post("/infer/object_detection", {"model_id": MODEL, "image": image, **fields})

    def infer(self, data, **fields):
        """The answer to a picture's bytes."""
        image = {"type": "base64", "value": base64.b64encode(data).decode()}
        return self.served.post("/infer/object_detection", {"model_id": MODEL, "image": image, **fields})

    def alive(self):
        """It answers, and rightly."""
        health = self.served.get("/healthz", limit=20)
        expect(health.status == 200 and health.json() == {"status": "healthy"}, f"/healthz: {health}")
        answer = self.infer(Path(self.picture).read_bytes())
        expect(answer.status == 200, f"{answer}")
        seen = {name: value for name, value in answer.json().items() if name in ("image", "predictions")}
        for prediction in seen["predictions"]:
            prediction.pop("detection_id")
        expected = self.ground.infer(MODEL, self.picture)
        expect(seen == {name: expected[name] for name in seen}, f"{json.dumps(seen)[:300]}")


def small_picture():
    """A JPEG of 64×48 pixels: what is not about pictures need not decode a large one."""
    import io

    from PIL import Image
    data = io.BytesIO()
    Image.new("RGB", (64, 48), (90, 120, 60)).save(data, "JPEG")
    return data.getvalue()


# Answers that are no defect: what was asked cannot be had, or not now.
FINE = set(range(200, 500)) | {501, 503, 505, 507}
LOOP = f"camera at {FPS} frames/s"
