#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Precision and recall of the embedded detector on frames of the conveyor.

    cargo run --release --example export_demo -- FRAMES
    python scripts/score_demo.py FRAMES
    python scripts/score_demo.py FRAMES --golden 9 >src/demo/golden_scene.json

Letterbox to 320 with grey 114, per-class NMS that removes a candidate when its intersection with a
kept box is above 0.3 of its own area (+1 on widths and heights, as Roboflow's engine counts), and
the matching of `source::demo::Score`: greedy by confidence, same class, IoU 0.5; a detection that
lies to half on a part visible to less than 40 % is left out of account.
"""
import argparse
import hashlib
import json
import os

import numpy as np
import onnxruntime
from PIL import Image

SIZE, GREY, MIN_VISIBLE = 320, 114, 0.40
HERE = os.path.dirname(os.path.abspath(__file__))


def letterbox(picture):
    width, height = picture.size
    scale = min(SIZE / width, SIZE / height)
    w, h = round(width * scale), round(height * scale)
    # Halving by the mean of 2x2 is what bilinear at half-pixel centres does at this scale.
    small = np.asarray(picture.resize((w, h), Image.BOX))
    left, top = (SIZE - w) // 2, (SIZE - h) // 2
    out = np.full((SIZE, SIZE, 3), GREY, np.uint8)
    out[top:top + h, left:left + w] = small
    return np.ascontiguousarray(out.transpose(2, 0, 1)[None]).astype(np.float32) / 255, scale, left, top


def nms(rows, limit=0.3):
    """rows: x1, y1, x2, y2, confidence, class."""
    kept = []
    for row in rows[np.argsort(-rows[:, 4], kind="stable")]:
        own = (row[2] - row[0] + 1) * (row[3] - row[1] + 1)
        for other in kept:
            w = min(row[2], other[2]) - max(row[0], other[0]) + 1
            h = min(row[3], other[3]) - max(row[1], other[1]) + 1
            if row[5] == other[5] and w > 0 and h > 0 and w * h / own > limit:
                break
        else:
            kept.append(row)
    return kept


def detect(session, picture, confidence):
    tensor, scale, left, top = letterbox(picture)
    out = session.run(None, {"images": tensor})[0][0].T
    best, score = out[:, 4:].argmax(1), out[:, 4:].max(1)
    on = score >= confidence
    centre, half = out[on, :2], out[on, 2:4] / 2
    box = (np.concatenate([centre - half, centre + half], 1) - [left, top, left, top]) / scale
    box = np.clip(box, 0, [*picture.size, *picture.size])
    return nms(np.concatenate([box, score[on, None], best[on, None]], 1))


def common(a, b):
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def area(a):
    return (a[2] - a[0]) * (a[3] - a[1])


def score(parts, detections, count, report):
    targets = [p for p in parts if p["visible"] >= MIN_VISIBLE]
    slivers = [p for p in parts if p["visible"] < MIN_VISIBLE]
    iou = lambda p, d: common(p["box"], d) / (area(p["box"]) + area(d) - common(p["box"], d))
    for d in detections:                          # NMS has left them in order of falling confidence
        fit = [p for p in targets if p["class_id"] == int(d[5]) and iou(p, d) >= 0.5]
        if fit:
            best = max(fit, key=lambda p: iou(p, d))
            targets.remove(best)
            count["found"] += 1
            count["iou"] += iou(best, d)
        elif not any(common(p["box"], d) >= 0.5 * area(d) for p in slivers):
            count["false"] += 1
            report("false", int(d[5]), [round(float(v), 1) for v in d[:4]], round(float(d[4]), 2))
    count["missed"] += len(targets)
    for p in targets:
        report("missed", p["class_id"], p["box"], round(p["visible"], 2))


def golden(session, args):
    with Image.open(os.path.join(args.frames, f"{args.golden}-000000.png")) as picture:
        found = detect(session, picture.convert("RGB"), args.confidence)
    with open(args.model, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    detections = [{
        "class_id": int(x[5]), "x": round(float(x[0] + x[2]) / 2, 2), "y": round(float(x[1] + x[3]) / 2, 2),
        "width": round(float(x[2] - x[0]), 2), "height": round(float(x[3] - x[1]), 2), "confidence": round(float(x[4]), 4),
    } for x in found]
    answer = {"seed": args.golden, "model_sha256": digest, "onnxruntime": onnxruntime.__version__,
              "confidence": args.confidence, "iou": 0.3, "detections": detections}
    return json.dumps(answer, indent=1)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("frames", help="folder that export_demo wrote")
    ap.add_argument("--model", default=os.path.join(HERE, "..", "src", "demo", "parts.onnx"))
    ap.add_argument("--confidence", type=float, default=0.4)
    ap.add_argument("--verbose", action="store_true", help="print every false alarm and every miss")
    ap.add_argument("--golden", type=int, metavar="SEED", help="instead: the answer on the first frame of this seed")
    args = ap.parse_args()
    session = onnxruntime.InferenceSession(args.model, providers=["CPUExecutionProvider"])
    if args.golden is not None:
        print(golden(session, args))
        return
    count = dict(frames=0, found=0, false=0, missed=0, iou=0.0)
    with open(os.path.join(args.frames, "truth.jsonl")) as lines:
        for line in map(json.loads, lines):
            with Image.open(os.path.join(args.frames, line["image"])) as picture:
                found = detect(session, picture.convert("RGB"), args.confidence)
            report = (lambda *what: print(line["image"], *what)) if args.verbose else (lambda *what: None)
            score(line["parts"], found, count, report)
            count["frames"] += 1
    count["iou"] = round(count["iou"] / max(1, count["found"]), 4)
    count["precision"] = round(count["found"] / max(1, count["found"] + count["false"]), 4)
    count["recall"] = round(count["found"] / max(1, count["found"] + count["missed"]), 4)
    print(json.dumps(count))


if __name__ == "__main__":
    main()
