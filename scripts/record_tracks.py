#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records what supervision's ByteTrack makes of seeded scenes: `src/rules/tracker/recorded.json`.

    python3 -m venv venv && venv/bin/pip install supervision==0.29.1
    venv/bin/python scripts/record_tracks.py > src/rules/tracker/recorded.json

A scene is a list of frames, a frame a list of detections [left, top, right, bottom, confidence, id], with id 0 for a
detection that supervision gives no track.
"""

import json
import random
import warnings

import numpy as np
import supervision as sv

warnings.filterwarnings("ignore")

WIDTH, HEIGHT, FRAMES = 640, 480, 60


def scene(seed, objects):
    """Objects that move, meet, are seen weakly, not at all for a while, and things that are seen once by mistake."""
    chance = random.Random(seed)
    walkers = [
        {
            "x": chance.uniform(60, WIDTH - 60), "y": chance.uniform(60, HEIGHT - 60),
            "vx": chance.uniform(-5, 5), "vy": chance.uniform(-3, 3),
            "w": chance.uniform(30, 90), "h": chance.uniform(30, 90),
            "from": chance.choice([0, 0, 0, chance.randrange(FRAMES)]), "hidden": 0,
        }
        for _ in range(objects)
    ]
    for frame in range(FRAMES):
        seen = []
        for walker in walkers:
            walker["x"] += walker["vx"]
            walker["y"] += walker["vy"]
            for axis, limit in (("x", WIDTH), ("y", HEIGHT)):
                if not 30 < walker[axis] < limit - 30:
                    walker["v" + axis] *= -1
            if walker["hidden"] > 0:
                walker["hidden"] -= 1
                continue
            if frame < walker["from"]:
                continue
            if chance.random() < 0.03:
                walker["hidden"] = chance.choice([1, 2, 5, 12, 33])
            jitter = lambda: chance.gauss(0, 1.2)
            x, y = walker["x"] + jitter(), walker["y"] + jitter()
            w, h = walker["w"] + jitter(), walker["h"] + jitter()
            score = chance.uniform(0.12, 0.24) if chance.random() < 0.15 else chance.uniform(0.4, 0.95)
            seen.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2, score])
        if chance.random() < 0.1:
            x, y = chance.uniform(0, WIDTH - 40), chance.uniform(0, HEIGHT - 40)
            seen.append([x, y, x + 40, y + 40, chance.uniform(0.05, 0.9)])
        yield [[round(value, 1) for value in box[:4]] + [round(box[4], 3)] for box in sorted(seen, key=lambda s: -s[4])]


def record(seed, objects, **settings):
    tracker = sv.ByteTrack(**settings)
    frames = []
    for seen in scene(seed, objects):
        ids = [0] * len(seen)
        if seen:
            boxes = np.array(seen)
            detections = sv.Detections(
                xyxy=boxes[:, :4], confidence=boxes[:, 4], class_id=np.zeros(len(seen), int),
                data={"place": np.arange(len(seen))},
            )
            tracked = tracker.update_with_detections(detections)
            for place, number in zip(tracked.data.get("place", []), tracked.tracker_id):
                ids[place] = int(number)
        else:
            tracker.update_with_tensors(np.zeros((0, 5)))
        frames.append([box + [number] for box, number in zip(seen, ids)])
    return {"settings": settings, "frames": frames}


scenes = [
    record(1, 6),
    record(2, 10),
    record(3, 8, minimum_consecutive_frames=3),
    record(4, 8, lost_track_buffer=8, minimum_matching_threshold=0.9, track_activation_threshold=0.35),
]
print("[" + ",\n".join(json.dumps(scene, separators=(",", ":")) for scene in scenes) + "]")
