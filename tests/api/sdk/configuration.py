"""Every field of the SDK's InferenceConfiguration that changes an answer, in v1 and v0."""
import base64
import io

import cv2
import numpy as np
from inference_sdk.http.entities import VisualisationResponseFormat
from PIL import Image, ImageChops
from sdk import PARTS
from sdk.infer import clients
from served import expect, short

# Of the SDK's configuration -> of Roboflow's request, which the command line takes. The values change the answer to the
# demo's picture, or to synth_a.png where it says so.
FIELDS = (
    ({"confidence_threshold": 0.05}, {"confidence": 0.05}),
    ({"confidence_threshold": 0.94}, {"confidence": 0.94}),
    ({"confidence_threshold": "best"}, {"confidence": "best"}),
    ({"confidence_threshold": "default"}, {"confidence": "default"}),
    ({"iou_threshold": 0.05, "confidence_threshold": 0.02}, {"iou_threshold": 0.05, "confidence": 0.02}),
    ({"iou_threshold": 0.95, "confidence_threshold": 0.02}, {"iou_threshold": 0.95, "confidence": 0.02}),
    ({"max_detections": 2}, {"max_detections": 2}),
    ({"max_candidates": 2}, {"max_candidates": 2}),
)
# Fields that v0 has no place for.
FIELDS_V1 = (
    ({"class_filter": ["bolt", "washer"]}, {"class_filter": ["bolt", "washer"]}),
    ({"class_filter": ["bolt"], "max_detections": 2}, {"class_filter": ["bolt"], "max_detections": 2}),
    ({"class_filter": ["no such class"]}, {"class_filter": ["no such class"]}),
    ({"class_agnostic_nms": True, "confidence_threshold": 0.02}, {"class_agnostic_nms": True, "confidence": 0.02}),
    ({"fix_batch_size": True}, {}),
)
COMMON = (
    ({"disable_active_learning": True, "active_learning_target_dataset": "some/1"}, {}),
    ({"source": "a test", "source_info": "of the API"}, {}),
    ({"disable_preproc_auto_orientation": True}, {"disable_preproc_auto_orient": True}),
    ({"disable_preproc_contrast": True, "disable_preproc_grayscale": True, "disable_preproc_static_crop": True},
     {"disable_preproc_contrast": True, "disable_preproc_grayscale": True, "disable_preproc_static_crop": True}),
    ({"count_inference": False, "service_secret": "none"}, {}),
)


def fields(bench):
    """Thresholds and counts of the configuration do what the command line does with them."""
    for given, request in FIELDS + COMMON:
        for client in clients(bench, **given):
            bench.same(client.infer(bench.picture, PARTS), PARTS, bench.picture, **request)


def fields_of_v1(bench):
    """Class filter and class-agnostic suppression."""
    for given, request in FIELDS_V1:
        bench.same(bench.client(**given).infer(bench.picture, PARTS), PARTS, bench.picture, **request)


def thresholds_of_v0(bench):
    """v0 takes hundredths too, and never goes below a confidence of 0.01."""
    text = {"Content-Type": "application/x-www-form-urlencoded"}
    body = base64.b64encode(open(bench.picture, "rb").read())
    for query, request in (("confidence=5", {"confidence": 0.05}), ("confidence=0.05", {"confidence": 0.05}),
                           ("confidence=0", {"confidence": 0.01}), ("confidence=94", {"confidence": 0.94}),
                           ("confidence=2&overlap=5", {"confidence": 0.02, "iou_threshold": 0.05}),
                           ("max_detections=1", {"max_detections": 1})):
        answer = bench.served.http("POST", f"/{PARTS}?{query}", body=body, headers=text)
        expect(answer.status == 200, f"{query}: {answer}")
        bench.same(answer.json(), PARTS, bench.picture, **request)


def changed_for_a_while(bench):
    """use_configuration() and configure() change what is asked, and back."""
    client = bench.client()
    from inference_sdk import InferenceConfiguration
    with client.use_configuration(InferenceConfiguration(max_detections=1, api_key_transport="legacy")):
        bench.same(client.infer(bench.picture, PARTS), PARTS, bench.picture, max_detections=1)
    bench.same(client.infer(bench.picture, PARTS), PARTS, bench.picture)


def orientation(bench):
    """A picture with EXIF orientation is turned, and left as it is when the configuration says so."""
    turned = str(bench.ground.picture("synth_exif6.jpg"))
    model = "g-yolov8n/1"
    for disable in (False, True):
        for client in clients(bench, disable_preproc_auto_orientation=disable):
            answer = client.infer(turned, model)
            bench.same(answer, model, turned, disable_preproc_auto_orient=disable)
    sizes = {disable: bench.ground.infer(model, turned, disable_preproc_auto_orient=disable)["image"]
             for disable in (False, True)}
    expect(sizes[False] != sizes[True], f"the test's picture shows nothing: {sizes}")


def downsizing(bench):
    """With client-side downsizing the SDK shrinks the picture by the registry's size, and scales the answer back."""
    client = bench.client(client_downsizing_disabled=False)
    answer, whole = client.infer(bench.picture, PARTS), bench.ground.infer(PARTS, bench.picture)
    expect(answer["predictions"], f"{short(answer)}")
    # Half the size: boxes are found again within a few pixels, mostly.
    found = [p for p in whole["predictions"]
             if any(abs(p["x"] - q["x"]) < 8 and abs(p["y"] - q["y"]) < 8 for q in answer["predictions"])]
    expect(2 * len(found) >= len(whole["predictions"]), f"{short(answer)} is not like {short(whole)}")


def unlike(picture, other, share=0.002):
    """How much of two pictures of one size differs clearly: a JPEG's noise does not."""
    difference = np.asarray(ImageChops.difference(picture.convert("RGB"), other.convert("RGB"))).max(axis=2)
    return (difference > 48).mean() > share


def visualisation(bench):
    """v1 visualize_predictions and v0 format=image give the picture with boxes, in the three forms of the SDK."""
    with Image.open(bench.picture) as opened:
        original = opened.convert("RGB")
    drawn = {}
    for version, given in (("v1", {"visualize_predictions": True}), ("v0", {"format": "image"})):
        for form in VisualisationResponseFormat:
            client = bench.client(output_visualisation_format=form, **given)
            client = client.select_api_v0() if version == "v0" else client
            answer = client.infer(bench.picture, PARTS)
            if version == "v1":
                bench.same(answer, PARTS, bench.picture)
            else:
                expect(list(answer) == ["visualization"], f"{list(answer)}")
            drawn[version, form] = opened_form(answer["visualization"], form)
    for (version, form), picture in drawn.items():
        expect(picture.size == original.size, f"{version} {form}: {picture.size}")
        expect(unlike(picture, original), f"{version} {form}: nothing is drawn on it")
    expect(not unlike(drawn["v0", VisualisationResponseFormat.PILLOW], drawn["v1", VisualisationResponseFormat.PILLOW], 0.01),
           "v0 and v1 draw differently")


def opened_form(picture, form):
    if form is VisualisationResponseFormat.BASE64:
        data = base64.b64decode(picture)
        expect(data[:2] == b"\xff\xd8", "not a JPEG")
        return Image.open(io.BytesIO(data)).convert("RGB")
    if form is VisualisationResponseFormat.NUMPY:
        return Image.fromarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
    return picture.convert("RGB")


def picture_of(client, bench):
    answer = client.infer(bench.picture, PARTS)
    return Image.open(io.BytesIO(base64.b64decode(answer["visualization"]))).convert("RGB")


def labels_and_strokes(bench):
    """Labels and stroke width change the picture."""
    for given in ({"visualize_predictions": True}, {"format": "image"}):
        def draw(given=given, **more):
            client = bench.client(**given, **more)
            return picture_of(client.select_api_v0() if "format" in given else client, bench)

        plain = draw()
        expect(unlike(draw(visualize_labels=True), plain), f"{given}: labels change nothing")
        expect(unlike(draw(stroke_width=9), plain), f"{given}: a stroke of 9 changes nothing")
        expect(not unlike(draw(stroke_width=1, visualize_labels=False), plain, 0.0005),
               f"{given}: without labels and with a stroke of 1 is not what comes by itself")


def image_and_json(bench):
    """v0 format=image_and_json has both."""
    client = bench.client(format="image_and_json").select_api_v0()
    answer = client.infer(bench.picture, PARTS)
    bench.same(answer, PARTS, bench.picture)
    expect(base64.b64decode(answer["visualization"])[:2] == b"\xff\xd8", "no JPEG in it")


CHECKS = (fields, fields_of_v1, thresholds_of_v0, changed_for_a_while, orientation, downsizing, visualisation,
          labels_and_strokes, image_and_json)
