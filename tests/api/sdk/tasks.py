"""Models of every task that the SDK has a route for, in both layouts of the cache."""
from sdk import refused
from sdk.infer import clients
from served import expect, short

SEGMENTATION, POSE, CLASSES, LABELS = "g-yolov8n-seg/1", "g-yolov8n-pose/1", "g-yolov8n-cls/1", "g-vit-multilabel/1"
DEFAULT_DETECTION, DEFAULT_SEGMENTATION = "g-yolov8n/2", "g-yolov8n-seg/2"


def check(bench, model, picture, request=None, **configuration):
    """v0 and v1 answer what the command line answers; returns the last answer."""
    picture = str(bench.ground.picture(picture))
    for client in clients(bench, **configuration):
        answer = bench.same(client.infer(picture, model), model, picture, **(request or {}))
    return answer


def description(bench, model):
    return bench.client().get_model_description(model)


def detection(bench):
    """Object detection, of both engines' semantics; the default engine's answers name the package."""
    for model in ("g-yolov8n/1", DEFAULT_DETECTION):
        answer = check(bench, model, "synth_a.png")
        expect(answer["predictions"], f"{short(answer)}")
        expect(description(bench, model).task_type == "object-detection", f"{description(bench, model)}")
    expect(answer["resolved_model"].keys() >= {"model_id", "model_package_id", "backend", "quantization"}, f"{short(answer)}")


def segmentation(bench):
    """Instance segmentation: polygons."""
    for model in (SEGMENTATION, DEFAULT_SEGMENTATION):
        answer = check(bench, model, "synth_a.png")
        expect(answer["predictions"] and all(len(p["points"]) > 2 for p in answer["predictions"]), f"{short(answer)}")
        expect(description(bench, model).task_type == "instance-segmentation", f"{description(bench, model)}")


def masks(bench):
    """Every way to decode and send masks that the configuration has."""
    for given in ({"mask_decode_mode": "fast"}, {"mask_decode_mode": "tradeoff", "tradeoff_factor": 0.5},
                  {"mask_decode_mode": "accurate"}, {"response_mask_format": "polygon"}, {"response_mask_format": "rle"},
                  {"allow_reduced_mask_resolution": True, "mask_decode_mode": "fast"}):
        for model in (SEGMENTATION, DEFAULT_SEGMENTATION):
            check(bench, model, "synth_a.png", given, **given)


def bad_masks(bench):
    """A mask argument out of range is a 400 with Roboflow's words."""
    picture = str(bench.ground.picture("synth_a.png"))
    for given in ({"mask_decode_mode": "tradeoff", "tradeoff_factor": 7.5}, {"mask_decode_mode": "best"}):
        for client in clients(bench, **given):
            refused(lambda client=client: client.infer(picture, SEGMENTATION), 400, "Invalid mask decode argument sent.")


def key_points(bench):
    """Key point detection."""
    answer = check(bench, POSE, "synth_a.png")
    points = [point for prediction in answer["predictions"] for point in prediction["keypoints"]]
    expect(points and all(point.keys() >= {"x", "y", "confidence", "class", "class_id"} for point in points), f"{points}")
    expect(description(bench, POSE).task_type == "keypoint-detection", f"{description(bench, POSE)}")
    check(bench, POSE, "synth_a.png", {"keypoint_confidence": 0.9}, keypoint_confidence_threshold=0.9)


def classification(bench):
    """Classification: the classes with the best on top."""
    for picture, name in (("cls_circle.png", "circle"), ("cls_square.png", "square"), ("cls_triangle.png", "triangle")):
        answer = check(bench, CLASSES, picture)
        expect(answer["top"] == name and answer["confidence"] > 0.4, f"{short(answer)}")
    check(bench, CLASSES, "cls_circle.png", {"confidence": 0.01}, confidence_threshold=0.01)
    expect(description(bench, CLASSES).task_type == "classification", f"{description(bench, CLASSES)}")


def multi_label(bench):
    """Multi-label classification, for which the SDK has no other route than that of classification."""
    answer = check(bench, LABELS, "cls_circle.png")
    expect(answer["predicted_classes"] == ["circle"] and answer["predictions"].keys() == {"circle", "square", "triangle"},
           f"{short(answer)}")
    expect(description(bench, LABELS).task_type == "classification", f"{description(bench, LABELS)}")


def drawn(bench):
    """Pictures of the other tasks: masks, key points and classes are drawn too."""
    for model, picture in ((SEGMENTATION, "synth_a.png"), (POSE, "synth_a.png"), (CLASSES, "cls_circle.png"),
                           (LABELS, "cls_circle.png")):
        path = str(bench.ground.picture(picture))
        answer = bench.client(visualize_predictions=True).infer(path, model)
        expect(answer.get("visualization"), f"{model}: no picture in v1")
        answer = bench.client(format="image").select_api_v0().infer(path, model)
        expect(answer.get("visualization"), f"{model}: no picture in v0")


def batches(bench):
    """Several pictures in one request, for each task."""
    for model, pictures in ((SEGMENTATION, ("synth_a.png", "synth_b.png")), (POSE, ("synth_b.png", "synth_a.png")),
                            (CLASSES, ("cls_square.png", "cls_circle.png"))):
        paths = [str(bench.ground.picture(picture)) for picture in pictures]
        for path, answer in zip(paths, bench.client(max_batch_size=2).infer(paths, model)):
            bench.same(answer, model, path)


CHECKS = (detection, segmentation, masks, bad_masks, key_points, classification, multi_label, drawn, batches)
