#!/usr/bin/env python3
"""Writes ONNX exports with random weights and what ONNX Runtime answers to them; `scripts/export_models` runs it.

    export_models.py FOLDER [NAME...]

Each export gets a folder: model.onnx, input.npy, output0.npy, output1.npy ... (ONNX Runtime's answers), case.json
(shapes, and which axis of an output holds its channels). case.json is written last, so a folder with one is whole;
one made by another version of this script is made again.

Random weights answer nothing useful by themselves: activations grow or vanish from layer to layer, and a fresh head
scores everything 1e-5. So batch norms are given random scales and then the statistics of real activations, what starts
as a constant is made random, and class scores are spread. Everything is seeded.
"""

import sys
import os

# CUDA's libraries are empty stand-ins here (see scripts/export_models): bind functions when called, not when loaded.
sys.setdlopenflags(os.RTLD_LAZY)

import contextlib
import hashlib
import itertools
import json
import pathlib
import shutil
import tempfile
import time
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

SCRIPT = hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()
SEED = 20261121
# Tries to find an input whose answer is well defined (see `reference`).
INPUTS_MAX = 60
CLASSES = 80


def image_batch(shape, seed, scale):
    """Blocks of random colour under fine noise, 0 to 1, put through `scale`; N C H W."""
    random = np.random.default_rng(seed)
    batch, channels, height, width = shape
    blocks = random.random((batch, channels, -(-height // 32), -(-width // 32)))
    blocks = blocks.repeat(32, axis=2).repeat(32, axis=3)[:, :, :height, :width]
    return scale(0.7 * blocks + 0.3 * random.random(shape)).astype(np.float32)


def unit(pixels):
    return pixels


def bytes_scale(pixels):
    return pixels * 255.0


def imagenet(pixels):
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return (pixels - mean[:, None, None]) / std[:, None, None]


# ---------------------------------------------------------------------------------------------- random weights


def randomise(model, shape, scale, gain=4.0):
    """Gives `model` weights whose activations have a sane size and whose outputs vary. `gain` spreads class scores."""
    torch.manual_seed(SEED)
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                if not parameter.dtype.is_floating_point or parameter.max() > parameter.min():
                    continue
                constant = parameter.flatten()[0].item()
                if name == "bias" and constant < -2:
                    # The prior of a class score: rarely anything. Here: often something, and of many strengths.
                    parameter.normal_(-1.5, 1.0)
                    module.weight.mul_(gain)
                elif name == "weight" and parameter.dim() > 1:
                    parameter.normal_(0.0, 0.5 / np.sqrt(parameter[0].numel()))
                elif constant == 0:
                    parameter.normal_(0.0, 0.1)
                else:
                    parameter.mul_(torch.empty_like(parameter).uniform_(0.5, 1.5))
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of what was seen
        norm.train()
    with torch.no_grad():
        model(torch.from_numpy(image_batch((4, *shape[1:]), SEED, scale)))
    model.eval()


# ---------------------------------------------------------------------------------------------- makers: one a package


def ultralytics(config, imgsz, scratch, *, batch=1, dynamic=False, nms=None, half=None):
    """`nms=False` asks for the heads that need none: the best 300 come out."""
    import ultralytics

    height, width = imgsz if isinstance(imgsz, tuple) else (imgsz, imgsz)
    torch.manual_seed(SEED)
    model = ultralytics.RTDETR(config) if "rtdetr" in config else ultralytics.YOLO(config, verbose=False)
    randomise(model.model, (1, 3, max(height, 160), max(width, 160)), unit)
    path = model.export(
        format="onnx", imgsz=[height, width], batch=batch, dynamic=dynamic, nms=nms, opset=17, device="cpu",
        simplify=True,
    )
    shutil.move(path, scratch / "model.onnx")
    if half:
        halve(scratch / "model.onnx", keep_io_types=half == "weights")


def halve(path, keep_io_types):
    """float16 weights, by what ultralytics' `quantize=16` runs on a CPU."""
    from onnxruntime.transformers import float16

    onnx.save(float16.convert_float_to_float16(onnx.load(path), keep_io_types=keep_io_types), path)


def yolo_nas(_, side, scratch):
    import modern_yolonas

    torch.manual_seed(SEED)
    model = modern_yolonas.yolo_nas_s(pretrained=False, num_classes=CLASSES)
    randomise(model, (1, 3, side, side), unit)
    for module in model.modules():
        if hasattr(module, "fuse_block_residual_branches"):
            module.fuse_block_residual_branches()
    names = ["pred_bboxes", "pred_scores"]
    axes = {name: {0: "batch"} for name in ["images", *names]}
    torch.onnx.export(
        model, torch.zeros(1, 3, side, side), scratch / "model.onnx", input_names=["images"], output_names=names,
        dynamic_axes=axes, opset_version=17, dynamo=False,
    )


def yolox(name, side, scratch, *, decode=False):
    from yolox.config import YoloxConfig
    from yolox.models.network_blocks import SiLU
    from yolox.utils import replace_module

    torch.manual_seed(SEED)
    model = YoloxConfig.get_named_config(name).get_model()
    model.head.decode_in_inference = False
    randomise(model, (1, 3, side, side), bytes_scale)
    for layer in model.head.reg_preds:
        layer.weight.data.mul_(0.3)  # sizes are e to the power of these: of some hundred pixels, not of 10^5
    model = replace_module(model, nn.SiLU, SiLU)
    model.head.decode_in_inference = decode
    torch.onnx.export(
        model, torch.zeros(1, 3, side, side), scratch / "model.onnx", input_names=["images"], output_names=["output"],
        opset_version=11, dynamo=False,
    )


def rfdetr(name, side, scratch, *, dynamic_batch=False, half=False):
    import rfdetr

    torch.manual_seed(SEED)
    model = getattr(rfdetr, name)(pretrain_weights=None, device="cpu")
    randomise(model.model.model, (1, 3, side, side), imagenet)
    path = model.export(output_dir=str(scratch), verbose=False, dynamic_batch=dynamic_batch)
    shutil.move(path, scratch / "model.onnx")
    if half:
        halve(scratch / "model.onnx", keep_io_types=True)


# ---------------------------------------------------------------------------------------------- the list

# How the channels of an output lie: by rows `[N, channels, anchors]` or by columns `[N, anchors, channels]`.
ROWS, COLUMNS, WHOLE = 1, 2, None


def case(maker, what, side, shape, channels, *, scale=unit, ranked=False, nudge=1e-6, **options):
    """`ranked`: the rows of all outputs are the best so many candidates, best first. `nudge`: see `reference`."""
    return {"make": lambda scratch: maker(what, side, scratch, **options), "shape": shape, "channels": channels,
            "scale": scale, "ranked": ranked, "nudge": nudge}


def square(side, batch=1):
    return [batch, 3, side, side]


CASES = {
    "yolov8n": case(ultralytics, "yolov8n.yaml", 640, square(640), [ROWS]),
    "yolo11n": case(ultralytics, "yolo11n.yaml", 320, square(320), [ROWS]),
    "yolo12n": case(ultralytics, "yolo12n.yaml", 320, square(320), [ROWS]),
    "yolov9t": case(ultralytics, "yolov9t.yaml", 320, square(320), [ROWS]),
    "yolov10n": case(ultralytics, "yolov10n.yaml", 320, square(320), [COLUMNS], ranked=True, nms=False),
    "yolo26n": case(ultralytics, "yolo26n.yaml", 320, square(320), [COLUMNS], ranked=True, nms=False),
    "yolov5nu": case(ultralytics, "yolov5n.yaml", 320, square(320), [ROWS]),
    "yolov8n-seg": case(ultralytics, "yolov8n-seg.yaml", 320, square(320), [ROWS, ROWS]),
    "yolov8n-pose": case(ultralytics, "yolov8n-pose.yaml", 320, square(320), [ROWS]),
    "yolov8n-cls": case(ultralytics, "yolov8n-cls.yaml", 224, square(224), [WHOLE]),
    "yolo_nas_s": case(yolo_nas, "", 320, square(320, 2), [COLUMNS, COLUMNS]),
    "yolox": case(yolox, "yolox-tiny", 416, square(416), [COLUMNS], scale=bytes_scale),
    "yolox-decoded": case(yolox, "yolox-tiny", 416, square(416), [COLUMNS], scale=bytes_scale, decode=True),
    "rtdetr": case(ultralytics, "rtdetr-l.yaml", 320, square(320), [COLUMNS], ranked=True),
    "rfdetr-nano": case(
        rfdetr, "RFDETRNano", 384, square(384), [COLUMNS, COLUMNS], scale=imagenet, ranked=True, nudge=2e-5
    ),
    "rfdetr-seg-nano": case(
        rfdetr, "RFDETRSegNano", 312, square(312), [COLUMNS, COLUMNS, WHOLE], scale=imagenet, ranked=True, nudge=1e-4,
        dynamic_batch=True,
    ),
    "yolov8n-160": case(ultralytics, "yolov8n.yaml", 160, square(160), [ROWS]),
    "yolov8n-256x384": case(ultralytics, "yolov8n.yaml", (256, 384), [1, 3, 256, 384], [ROWS]),
    "yolov8n-batch2": case(ultralytics, "yolov8n.yaml", 160, square(160, 2), [ROWS], batch=2),
    "yolov8n-dynamic": case(ultralytics, "yolov8n.yaml", 160, [2, 3, 192, 256], [ROWS], dynamic=True),
    "yolov8n-fp16": case(ultralytics, "yolov8n.yaml", 160, square(160), [ROWS], half="weights"),
    "yolov8n-fp16-io": case(ultralytics, "yolov8n.yaml", 160, square(160), [ROWS], half="all"),
    "rfdetr-seg-nano-fp16": case(
        rfdetr, "RFDETRSegNano", 312, square(312), [COLUMNS, COLUMNS, WHOLE], scale=imagenet, ranked=True, nudge=1e-4,
        half=True,
    ),
}


# ---------------------------------------------------------------------------------------------- the answers


def session(network, optimise=True):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])


def answer(network, pixels):
    return network.run(None, {network.get_inputs()[0].name: pixels})


def same_rows(found, expected):
    """Whether every ranked row of `expected`, with all its outputs, is in `found`, at whatever rank."""
    def rows(outputs):
        return [output.reshape(*output.shape[:2], -1) for output in outputs]

    found, expected = rows(found), rows(expected)
    scales = [1e-3 * np.abs(output).max(axis=(0, 1)) for output in expected]
    for image in range(expected[0].shape[0]):
        near = np.ones((expected[0].shape[1],) * 2, bool)
        for have, want, scale in zip(found, expected, scales):
            near &= [(np.abs(have[image] - row) <= scale).all(axis=1) for row in want[image]]
        if not near.any(axis=1).all():
            return False
    return True


def widened(path):
    """The same network with its float16 numbers as float32, and computed in float32.

    ONNX Runtime rounds to float16 between the layers, which moves the answers of these networks by some per cent, its
    own way and not another runtime's. What the file says is its weights; so the answer is that of exact arithmetic.
    """
    network = onnx.load(path)
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    attributes = [attribute for node in network.graph.node for attribute in node.attribute]
    tensors = [attribute.t for attribute in attributes if attribute.HasField("t")]
    for tensor in [*network.graph.initializer, *tensors]:
        if tensor.data_type == half:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for attribute in attributes:
        if attribute.name == "to" and attribute.i == half:
            attribute.i = single
    for value in [*network.graph.input, *network.graph.output, *network.graph.value_info]:
        if value.type.tensor_type.elem_type == half:
            value.type.tensor_type.elem_type = single
    return network.SerializeToString()


def reference(path, want):
    """An input and ONNX Runtime's answer.

    The best 300 of some thousands are not well defined when number 300 and 301 score the same but for rounding, and in
    a transformer a changed pick changes every row. So an input counts only if ONNX Runtime finds the same rows without
    its optimisations, and three times with the input nudged: by a part that moves the answer several times as far as
    another runtime's rounding does. Else the next input is tried.
    """
    network = session(widened(path))
    if not want["ranked"]:
        pixels = image_batch(want["shape"], SEED, want["scale"])
        half = "float16" in session(path).get_inputs()[0].type
        return pixels, answer(network, pixels.astype(np.float16).astype(np.float32) if half else pixels)
    plain = session(widened(path), optimise=False)
    for seed in range(SEED, SEED + INPUTS_MAX):
        pixels = image_batch(want["shape"], seed, want["scale"])
        outputs = answer(network, pixels)
        noise = np.random.default_rng(seed).normal(1, want["nudge"], (3, *pixels.shape)).astype(np.float32)
        others = itertools.chain([answer(plain, pixels)], (answer(network, pixels * nudge) for nudge in noise))
        if all(same_rows(other, outputs) for other in others):
            print(f"input of seed {seed}", file=sys.stderr)
            return pixels, outputs
    sys.exit(f"{path}: no input in {INPUTS_MAX} has a well-defined answer")


def spread(output, axis):
    """Median over the channels of std / max: 0 when every place answers the same."""
    flat = output.reshape(1, -1) if axis is None else np.moveaxis(output, axis, 0).reshape(output.shape[axis], -1)
    return float(np.median(flat.std(axis=1) / np.maximum(np.abs(flat).max(axis=1), 1e-12)))


def make(name, folder):
    want = CASES[name]
    done = folder / name / "case.json"
    if done.exists() and json.loads(done.read_text())["script"] == SCRIPT:
        return json.loads(done.read_text()), False
    shutil.rmtree(folder / name, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch, contextlib.chdir(scratch):
        scratch = pathlib.Path(scratch)
        with contextlib.redirect_stdout(sys.stderr):
            want["make"](scratch)
        path = scratch / "model.onnx"
        pixels, outputs = reference(str(path), want)
        np.save(scratch / "input.npy", pixels)
        for index, output in enumerate(outputs):
            np.save(scratch / f"output{index}.npy", output)
        declared = session(str(path)).get_inputs()[0].shape
        spreads = [spread(output, axis) for output, axis in zip(outputs, want["channels"], strict=True)]
        if not all(np.isfinite(output).all() for output in outputs) or min(spreads) < 0.003:
            sys.exit(f"{name}: the outputs are constant or not finite: spreads {spreads}")
        graph = onnx.load(path).graph.SerializeToString(deterministic=True)  # without metadata, which holds the time
        facts = {
            "name": name, "script": SCRIPT, "sha256": hashlib.sha256(graph).hexdigest(),
            "declared": [str(dim) for dim in declared], "input": want["shape"], "ranked": want["ranked"],
            "outputs": [
                {"shape": output.shape, "channels": axis, "spread": round(value, 4)}
                for output, axis, value in zip(outputs, want["channels"], spreads)
            ],
        }
        finished = folder / name
        finished.mkdir()
        for file in [path, *sorted(scratch.glob("*.npy"))]:
            shutil.move(file, finished / file.name)
        done.write_text(json.dumps(facts))
    return facts, True


def main():
    warnings.filterwarnings("ignore")
    folder = pathlib.Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:] or CASES:
        started = time.monotonic()
        facts, made = make(name, folder)
        outputs = ", ".join(f"{output['shape']} spread {output['spread']}" for output in facts["outputs"])
        took = f"{time.monotonic() - started:.1f} s" if made else "kept"
        print(f"{name}: sha256 {facts['sha256'][:16]}, input {facts['input']}, declared "
              f"[{', '.join(facts['declared'])}], outputs {outputs} ({took})", flush=True)


if __name__ == "__main__":
    main()
