#!/usr/bin/env python3
"""Makes small networks with random weights, and what TensorFlow Lite answers to one input: answers.json. Needs
ai-edge-litert 2.3.0 and numpy.

    tests/tflite/make_networks.py

- detector.tflite, detector-regular.tflite: end as every SSD of TensorFlow does. Two products make boxes and scores of 12
  anchors and 3 classes with a background. One suppresses overlaps over all classes at once, the other within each class.
- operators.tflite: one output an operator, for operators that the fetched models do not have.
- options.bin: options of an operator.

The picture of all is 2 x 3.
"""

import json
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import flexbuffers

HERE = Path(__file__).parent
ANCHORS, CLASSES = 12, 3
HEIGHT, WIDTH = 2, 3


class Network:
    """A graph in the making; tensors are known by their number."""

    def __init__(self):
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    def tensor(self, name, shape, values=None, kind=schema.TensorType.FLOAT32):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), kind
        tensor.buffer = 0
        if values is not None:
            buffer = schema.BufferT()
            stored = {schema.TensorType.FLOAT32: "<f4", schema.TensorType.INT32: "<i4", schema.TensorType.INT8: "<i1"}
            buffer.data = np.frombuffer(np.asarray(values).astype(stored[kind]).tobytes(), dtype=np.uint8)
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def step(self, code, inputs, outputs, kind=0, options=None, custom=None):
        entry = schema.OperatorCodeT()
        entry.builtinCode, entry.deprecatedBuiltinCode = code, min(code, 127)
        entry.version = 2 if code == schema.BuiltinOperator.BROADCAST_TO else 1
        step = schema.OperatorT()
        if custom is not None:
            entry.customCode, step.customOptions = custom
        step.opcodeIndex = len(self.model.operatorCodes)
        self.model.operatorCodes.append(entry)
        step.inputs, step.outputs = inputs, outputs
        step.builtinOptionsType, step.builtinOptions = kind, options
        self.graph.operators.append(step)

    def bytes(self):
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def detector(random, regular):
    network = Network()
    values = HEIGHT * WIDTH * 3
    picture = network.tensor("picture", [1, HEIGHT, WIDTH, 3])

    def product(name, columns, spread):
        weights = network.tensor(f"{name}.weights", [ANCHORS * columns, values],
                                 random.normal(0, spread, (ANCHORS * columns, values)))
        bias = network.tensor(f"{name}.bias", [ANCHORS * columns], random.normal(0, spread, ANCHORS * columns))
        flat = network.tensor(f"{name}.flat", [1, ANCHORS * columns])
        options = schema.FullyConnectedOptionsT()
        network.step(schema.BuiltinOperator.FULLY_CONNECTED, [picture, weights, bias], [flat],
                     schema.BuiltinOptions.FullyConnectedOptions, options)
        rows = network.tensor(name, [1, ANCHORS, columns])
        options = schema.ReshapeOptionsT()
        options.newShape = [1, ANCHORS, columns]
        network.step(schema.BuiltinOperator.RESHAPE, [flat], [rows], schema.BuiltinOptions.ReshapeOptions, options)
        return rows

    boxes = product("boxes", 4, 0.5)
    logits = product("logits", CLASSES + 1, 1.0)
    scores = network.tensor("scores", [1, ANCHORS, CLASSES + 1])
    network.step(schema.BuiltinOperator.LOGISTIC, [logits], [scores])
    places = random.uniform(0.2, 0.8, (ANCHORS, 2))
    anchors = network.tensor("anchors", [ANCHORS, 4], np.hstack([places, np.full((ANCHORS, 2), 0.4)]))
    outputs = [network.tensor(f"answer{index}", []) for index in range(4)]
    options = {"max_detections": 6, "max_classes_per_detection": 1, "detections_per_class": 4, "use_regular_nms": regular,
               "nms_score_threshold": 0.2, "nms_iou_threshold": 0.35, "num_classes": CLASSES,
               "y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0}
    custom = ("TFLite_Detection_PostProcess", np.frombuffer(bytes(flexbuffers.Dumps(options)), dtype=np.uint8))
    network.step(schema.BuiltinOperator.CUSTOM, [boxes, scores, anchors], outputs, custom=custom)
    network.graph.inputs, network.graph.outputs = [picture], outputs
    return network.bytes()


def operators(random):
    network = Network()
    picture = network.tensor("picture", [1, HEIGHT, WIDTH, 3])
    codes, kinds, outputs = schema.BuiltinOperator, schema.BuiltinOptions, []

    def whole(*values, shape=None):
        values = np.array(values)
        return network.tensor(f"whole{len(network.graph.tensors)}", shape or values.shape, values, schema.TensorType.INT32)

    def real(values):
        values = np.asarray(values)
        return network.tensor(f"real{len(network.graph.tensors)}", values.shape, values)

    def output(operator, inputs, *shapes, **options):
        """An operator whose results are outputs; options are those of the type that is named for it."""
        results = [network.tensor(f"{operator}{index}", shape) for index, shape in enumerate(shapes)]
        kind, value = 0, None
        if options or "kind" in options:
            name = options.pop("kind")
            kind, value = getattr(kinds, name), getattr(schema, name + "T")()
            for key, option in options.items():
                setattr(value, key, option)
        network.step(getattr(codes, operator), inputs, results, kind, value)
        outputs.extend(results)
        return results

    same = [1, HEIGHT, WIDTH, 3]
    output("TRANSPOSE", [picture, whole(0, 3, 1, 2)], [1, 3, HEIGHT, WIDTH], kind="TransposeOptions")
    output("STRIDED_SLICE", [picture, whole(0, 1, 0, -2), whole(1, 2, 2, 3), whole(1, 1, 1, 1)], [2, 2],
           kind="StridedSliceOptions", beginMask=0, endMask=8, shrinkAxisMask=3)
    output("SLICE", [picture, whole(0, 0, 1, 0), whole(1, 2, -1, 2)], [1, 2, 2, 2], kind="SliceOptions")
    output("SPLIT", [whole(3, shape=[]), picture], *[[1, HEIGHT, WIDTH, 1]] * 3, kind="SplitOptions", numSplits=3)
    output("SPLIT_V", [picture, whole(1, 2), whole(-2, shape=[])], [1, HEIGHT, 1, 3], [1, HEIGHT, 2, 3],
           kind="SplitVOptions", numSplits=2)
    output("UNPACK", [picture], *[[1, HEIGHT, 3]] * 3, kind="UnpackOptions", num=3, axis=2)
    output("PACK", [picture, picture], [1, 2, HEIGHT, WIDTH, 3], kind="PackOptions", valuesCount=2, axis=1)
    output("GATHER", [picture, whole(2, 0)], [1, HEIGHT, 2, 3], kind="GatherOptions", axis=2)
    output("GATHER_ND", [picture, whole([0, 1, 2], [0, 0, 1])], [2, 3])
    output("PADV2", [picture, whole([0, 0], [1, 0], [0, 2], [0, 0]), real(0.5)], [1, 3, 5, 3], kind="PadV2Options")
    output("BROADCAST_TO", [picture, whole(2, HEIGHT, WIDTH, 3)], [2, HEIGHT, WIDTH, 3])
    output("PRELU", [picture, real(random.uniform(0, 1, (1, 1, 3)))], same)
    output("LEAKY_RELU", [picture], same, kind="LeakyReluOptions", alpha=0.25)
    for unary in ["HARD_SWISH", "TANH", "ABS", "NEG", "EXP", "FLOOR", "CEIL", "SQUARE", "RELU6", "RELU_N1_TO_1"]:
        output(unary, [picture], same)
    for binary in ["MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "FLOOR_DIV"]:
        output(binary, [picture, real(random.uniform(0.2, 0.6, 3))], same)
    output("SUB", [real(random.uniform(-1, 1, (HEIGHT, 1, 1))), picture], same, kind="SubOptions",
           fusedActivationFunction=schema.ActivationFunctionType.RELU)
    output("MEAN", [picture, whole(1, 2)], [1, 3], kind="ReducerOptions", keepDims=False)
    output("SUM", [picture, whole(-1)], [1, HEIGHT, WIDTH, 1], kind="ReducerOptions", keepDims=True)
    output("REDUCE_MAX", [picture, whole(1)], [1, WIDTH, 3], kind="ReducerOptions", keepDims=False)
    output("SOFTMAX", [picture], same, kind="SoftmaxOptions", beta=2.0)
    output("CONCATENATION", [picture, picture], [1, HEIGHT, WIDTH, 6], kind="ConcatenationOptions", axis=-1)
    output("AVERAGE_POOL_2D", [picture], [1, 1, 2, 3], kind="Pool2DOptions", padding=0, strideH=2, strideW=2,
           filterHeight=2, filterWidth=2)
    for corners, halves in [(False, False), (True, False), (False, True)]:
        flags = {"alignCorners": corners, "halfPixelCenters": halves}
        output("RESIZE_NEAREST_NEIGHBOR", [picture, whole(5, 4)], [1, 5, 4, 3], kind="ResizeNearestNeighborOptions", **flags)
        output("RESIZE_BILINEAR", [picture, whole(5, 4)], [1, 5, 4, 3], kind="ResizeBilinearOptions", **flags)
    # Two channels out of each, by weights of bytes with a scale for each of the six.
    weights = network.tensor("weights", [1, 2, 2, 6], random.integers(-127, 128, (1, 2, 2, 6)), schema.TensorType.INT8)
    scales = schema.QuantizationParametersT()
    scales.scale, scales.zeroPoint, scales.quantizedDimension = random.uniform(0.01, 0.02, 6).astype(np.float32), [0] * 6, 3
    network.graph.tensors[weights].quantization = scales
    widened = network.tensor("widened", [1, 2, 2, 6])
    network.step(codes.DEQUANTIZE, [weights], [widened])
    output("DEPTHWISE_CONV_2D", [picture, widened, real(random.uniform(-1, 1, 6))], [1, HEIGHT, WIDTH, 6],
           kind="DepthwiseConv2DOptions", padding=0, strideH=1, strideW=1, depthMultiplier=2, dilationHFactor=1,
           dilationWFactor=1, fusedActivationFunction=schema.ActivationFunctionType.RELU)
    network.graph.inputs, network.graph.outputs = [picture], outputs
    return network.bytes()


def main():
    answers = {}
    random = np.random.default_rng
    made = {
        "detector": detector(random(8), False),
        "detector-regular": detector(random(8), True),
        "operators": operators(random(9)),
    }
    for name, data in made.items():
        (HERE / f"{name}.tflite").write_bytes(data)
        interpreter = Interpreter(model_content=data)
        interpreter.allocate_tensors()
        planes = np.linspace(-1, 1, HEIGHT * WIDTH * 3, dtype=np.float32).reshape(1, 3, HEIGHT, WIDTH)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], planes.transpose(0, 2, 3, 1))
        interpreter.invoke()
        answers[name] = [interpreter.get_tensor(output["index"]).flatten().tolist()
                         for output in interpreter.get_output_details()]
    answers["input"] = planes.flatten().tolist()
    (HERE / "answers.json").write_text(json.dumps(answers) + "\n")
    (HERE / "options.bin").write_bytes(bytes(flexbuffers.Dumps({"a": 3, "b": 0.5, "c": True})))


main()
