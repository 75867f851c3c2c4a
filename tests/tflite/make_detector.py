#!/usr/bin/env python3
"""Makes detector.tflite, a network with random weights that ends as every SSD of TensorFlow does, and what TensorFlow Lite
answers to one input: detector.json. Needs ai-edge-litert 2.3.0 and numpy.

    tests/tflite/make_detector.py

The picture is 2 x 3; two products make boxes and scores of 12 anchors and 3 classes with a background. One file suppresses
overlaps over all classes at once, the other within each class.
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

    def tensor(self, name, shape, values=None):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), schema.TensorType.FLOAT32
        tensor.buffer = 0
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(values.astype("<f4").tobytes(), dtype=np.uint8)
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def step(self, code, inputs, outputs, kind=0, options=None, custom=None):
        entry = schema.OperatorCodeT()
        entry.builtinCode, entry.deprecatedBuiltinCode = code, code
        entry.version = 1
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


def main():
    answers = {}
    for name, regular in [("detector", False), ("detector-regular", True)]:
        random = np.random.default_rng(8)
        data = detector(random, regular)
        (HERE / f"{name}.tflite").write_bytes(data)
        interpreter = Interpreter(model_content=data)
        interpreter.allocate_tensors()
        planes = np.linspace(-1, 1, HEIGHT * WIDTH * 3, dtype=np.float32).reshape(1, 3, HEIGHT, WIDTH)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], planes.transpose(0, 2, 3, 1))
        interpreter.invoke()
        answers[name] = [interpreter.get_tensor(output["index"]).flatten().tolist()
                         for output in interpreter.get_output_details()]
    answers["input"] = planes.flatten().tolist()
    (HERE / "detector.json").write_text(json.dumps(answers) + "\n")
    (HERE / "options.bin").write_bytes(bytes(flexbuffers.Dumps({"a": 3, "b": 0.5, "c": True})))


main()
