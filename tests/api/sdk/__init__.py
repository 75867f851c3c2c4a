"""What the parts of tests/api/sdk.py share: a client, the models, and what their answers must be."""
import shutil
import time

from inference_sdk import InferenceConfiguration, InferenceHTTPClient
from inference_sdk.http.errors import HTTPCallErrorError
from served import Failed, bare, expect, short

# The demo model, its picture, and the class names it knows.
PARTS, PICTURE = "parts/1", "golden.png"
# What the SDK's `yolov8n-640` means; the package in the cache is the demo model again.
ALIAS, ALIASED = "yolov8n-640", "coco/3"
# A file source of the pipelines: frames of the demo scene as pictures, which the server may read.
FILM_FRAMES = 12


def config(ground):
    return f'[output]\njson = "stdout"\n[serving.images]\ndirs = ["{ground.pictures}"]\n'


def lay_film(ground):
    """Twelve pictures in a folder that the server may read."""
    film = ground.pictures / "film"
    film.mkdir()
    for frame in range(FILM_FRAMES):
        shutil.copyfile(ground.picture(PICTURE), film / f"{frame:03}.png")


class Bench:
    def __init__(self, ground, served, full):
        self.ground, self.served, self.full = ground, served, full
        self.picture = str(ground.picture(PICTURE))

    def client(self, *, url=None, key="any", transport="legacy", **configuration):
        """A client as a user makes one. An explicit transport keeps the SDK from recommending another at each start."""
        client = InferenceHTTPClient(api_url=url or self.served.url, api_key=key)
        return client.configure(InferenceConfiguration(api_key_transport=transport, **configuration))

    def same(self, answer, model, picture, **request):
        """An answer of the API is what the command line prints, but for ids, times and pictures."""
        expected = self.ground.infer(model, picture, **request)
        expect(bare(answer) == expected, f"{model}: {short(bare(answer))} is not {short(expected)}")
        return answer


def refused(call, status, *words):
    """The SDK raises its error with this status and these words in the server's message; returns the message."""
    try:
        answer = call()
    except HTTPCallErrorError as error:
        message = str(error.api_message)
        expect(error.status_code == status, f"status {error.status_code}, not {status}: {short(str(error))}")
        for word in words:
            expect(word in message, f"the message does not say {word!r}: {message}")
        return message
    raise Failed(f"accepted: {short(answer)}")


def ids(registered):
    return [model.model_id for model in registered.models]


def eventually(seconds, call):
    """Calls until the server answers well."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call()
        except (HTTPCallErrorError, Failed):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
