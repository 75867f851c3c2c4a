#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tiny bolt / nut / washer detector: render -> train -> evaluate -> export, in one file.

Everything here is written from scratch on numpy, Pillow and PyTorch (ONNX and ONNX Runtime
for the export and its check). No third-party detector code, no pretrained weights, no
photographs: every pixel comes from the renderer below, which SCENE.md describes.

The ONNX follows the usual YOLOv8 export contract:
    images  float32 [1, 3, 320, 320]   RGB, 0..1, letterboxed with grey 114
    output0 float32 [1, 4 + 3, 2100]   rows 0..3 cx, cy, w, h in input pixels; rows 4.. scores 0..1
    2100 columns = 40*40 (stride 8) + 20*20 (stride 16) + 10*10 (stride 32), row-major each

Typical use (one CPU core):
    python scripts/train_demo.py --out .                      # all stages
    python scripts/train_demo.py --out . --stage golden       # only export, check, measure, golden frame from the weights
"""
import argparse
import hashlib
import io
import json
import math
import os
import time
import warnings

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFilter

CLASSES = ["bolt", "nut", "washer"]
BOLT, NUT, WASHER, DISC = 0, 1, 2, -1          # DISC is a distractor and never a target
NC, SIZE, STRIDES, REG = len(CLASSES), 320, (8, 16, 32), 16
GREY = 114
MIN_VISIBLE = 0.40                              # a part less visible than this is not a target


# ============================================================================ 1. scene renderer
# Conventions: x to the right, y down, pixel (i, j) has its centre at (i + .5, j + .5), lengths
# in pixels of a 640x480 frame, angles in radians, colours 0..255. U(a, b) is uniform.

def part_sdf(p, dx, dy):
    """Signed distance (pixels, > 0 inside) of part `p` at offsets dx, dy from its centre, plus
    the local coordinates u (along the part), v (across) and rho (radius)."""
    c, s = math.cos(p["angle"]), math.sin(p["angle"])
    u, v = dx * c + dy * s, dy * c - dx * s
    S, kind = p["size"], p["kind"]
    rho = np.sqrt(u * u + v * v) if kind != BOLT else None
    if kind == DISC:
        d = S / 2 - rho
    elif kind == WASHER:
        d = np.minimum(S / 2 - rho, rho - p["hole"] * S / 2)
    elif kind == NUT:                            # hexagon, S = across corners
        a = S / 2 * math.cos(math.pi / 6)
        h = math.sqrt(3) / 2
        d = a - np.maximum(np.abs(v), np.maximum(np.abs(h * u + v / 2), np.abs(h * u - v / 2)))
        d = np.minimum(d, rho - p["hole"] * a)
    else:                                        # bolt from the side, S = total length
        h, w, s2 = p["head_len"] * S, p["head_w"] * S, p["shank_w"] * S / 2
        av, t, cut = np.abs(v), u + S / 2, 0.22 * w
        head = np.minimum(np.minimum(t, h - t), w / 2 - av)
        head = np.minimum(head, (t + (w / 2 - av) - cut) * math.sqrt(0.5))
        r = 0.45 * s2
        qx = np.abs(u - h / 2 + 0.5) - (S - h + 1) / 2 + r
        qy = av - s2 + r
        shank = r - (np.sqrt(np.maximum(qx, 0) ** 2 + np.maximum(qy, 0) ** 2)
                     + np.minimum(np.maximum(qx, qy), 0))
        d = np.maximum(head, shank)
    return d, u, v, rho


def part_shade(p, u, v, rho, dx, dy, light):
    """Brightness factor of the part's surface."""
    S, kind = p["size"], p["kind"]
    m = 1.0 + p["slope"] * (dx * light[0] + dy * light[1]) / (S / 2)
    if kind == DISC:
        m = m * np.where(rho > 0.90 * S / 2, p["rim"], 1.0)
    elif kind == WASHER:
        R, r = S / 2, p["hole"] * S / 2
        e = 0.14 * (R - r) + 0.6
        m = m * np.where((R - rho < e) | (rho - r < e), p["rim"], 1.0)
    elif kind == NUT:
        a = S / 2 * math.cos(math.pi / 6)
        m = m * np.where(rho > 0.97 * a, p["rim"], 1.0)
        m = m * np.where(rho < p["hole"] * a + 0.10 * a, 0.72, 1.0)
    else:
        h, w, s2 = p["head_len"] * S, p["head_w"] * S, p["shank_w"] * S / 2
        t = u + S / 2
        head = np.where(np.abs(v) > w / 4, p["rim"], 1.0)
        shank = 1.06 - 0.34 * (v / s2) ** 2
        thread = (t > h + p["plain"] * (S - h)) & (np.mod(t + 0.25 * v, p["pitch"]) < 0.45 * p["pitch"])
        m = m * np.where(t < h, head, shank * np.where(thread, 0.62, 1.0))
    return m


def random_part(rng, kind, lo, hi):
    U = rng.uniform
    span = {BOLT: (44, 90), NUT: (28, 64), WASHER: (28, 72), DISC: (16, 60)}[kind]
    p = dict(kind=kind, size=float(U(span[0] * lo, span[1] * hi)), angle=float(U(0, 2 * math.pi)),
             slope=float(U(0.02, 0.16)), rim=float(U(0.74, 0.92)))
    if rng.random() < 0.25:                      # brass
        g = U(165, 225)
        p["color"] = [float(g), float(g * U(0.80, 0.90)), float(g * U(0.44, 0.64))]
    else:                                        # steel
        g = U(118, 215)
        p["color"] = [float(g * U(0.96, 1.0)), float(g), float(g * U(1.0, 1.06))]
    if kind == DISC and rng.random() < 0.4:      # rubber or plastic disc
        p["color"] = [float(x) for x in U(20, 120) * U(0.8, 1.2, 3)]
    if kind == WASHER:
        p["hole"] = float(U(0.40, 0.60))         # hole radius / outer radius
    if kind == NUT:
        p["hole"] = float(U(0.48, 0.64))         # hole radius / inscribed radius
    if kind == BOLT:
        p.update(head_len=float(U(0.20, 0.28)), head_w=float(U(0.36, 0.48)), shank_w=float(U(0.16, 0.24)),
                 plain=float(U(0.0, 0.5)), pitch=float(U(3.6, 5.5)))
    return p


def part_half_extent(p):
    """Half width and height of the part's axis-aligned box, from its outline points."""
    S, c, s = p["size"], math.cos(p["angle"]), math.sin(p["angle"])
    if p["kind"] in (WASHER, DISC):
        return S / 2, S / 2
    if p["kind"] == NUT:
        a = p["angle"] + np.arange(6) * math.pi / 3
        return float(np.abs(np.cos(a)).max() * S / 2), float(np.abs(np.sin(a)).max() * S / 2)
    w = p["head_w"] * S / 2
    return abs(c) * S / 2 + abs(s) * w, abs(s) * S / 2 + abs(c) * w


def random_scene(rng, W=640, H=480, wide=False):
    """Draws every parameter of one frame. `wide` is the training variant: more parts, 15 % more
    size range, and slivers at the frame's edge. `wide="hard"` adds much more clutter to it."""
    U = rng.uniform
    hard = wide == "hard"
    lo, hi = (0.86, 1.14) if wide else (1.0, 1.0)
    th = U(0, 2 * math.pi)
    sc = dict(W=W, H=H, belt=float(U(30, 74)), tint=[float(x) for x in U(0.92, 1.08, 3)],
              stripe=dict(period=float(U(18, 48)), amp=float(U(2, 9)), slant=float(U(-0.35, 0.35)),
                          phase=float(U(0, 48)), square=bool(rng.random() < 0.5)),
              mottle=float(U(0, 4)), light=[float(U(-0.28, 0.28)), float(U(-0.28, 0.28)), float(U(0, 0.4))],
              shadow=dict(dx=int(round(math.cos(th) * U(1.5, 6))), dy=int(round(math.sin(th) * U(1.5, 6))),
                          k=float(U(0.2, 0.6))),
              edge=float(rng.choice([0.02, 1.0, 1.0, 2.0])),
              seams=[], scratches=[], dirt=[], parts=[])
    for _ in range(rng.choice([0, 0, 1, 2])):
        sc["seams"].append(dict(x=float(U(0, W)), lean=float(U(-0.2, 0.2)), width=float(U(1.5, 6)),
                                k=float(U(0.45, 0.8)), lip=float(U(0, 30))))
    for _ in range(rng.integers(0, 9)):
        a, n = U(0, 2 * math.pi), U(15, 170)
        x, y = U(0, W), U(0, H)
        sc["scratches"].append(dict(a=[float(x), float(y)], b=[float(x + n * math.cos(a)), float(y + n * math.sin(a))],
                                    width=float(U(0.8, 2.4)), add=float(rng.choice([-1, 1]) * U(8, 45))))
    for _ in range(rng.integers(0, 6)):
        sc["dirt"].append(dict(x=float(U(0, W)), y=float(U(0, H)), r=[float(v) for v in U(4, 20) * U(0.6, 1.25, 9)],
                               add=[float(v) for v in rng.choice([-1, -1, 1]) * U(8, 34) * U(0.8, 1.2, 3)]))
    if hard:                                      # short bright scratches, light dirt, more discs
        for _ in range(rng.integers(0, 12)):
            a, n, x, y = U(0, 2 * math.pi), U(12, 90), U(0, W), U(0, H)
            sc["scratches"].append(dict(a=[float(x), float(y)], b=[float(x + n * math.cos(a)), float(y + n * math.sin(a))],
                                        width=float(U(0.8, 4.0)), add=float(rng.choice([-1, 1, 1, 1]) * U(10, 75))))
        for _ in range(rng.integers(0, 8)):
            sc["dirt"].append(dict(x=float(U(0, W)), y=float(U(0, H)), r=[float(v) for v in U(4, 26) * U(0.6, 1.25, 9)],
                                   add=[float(v) for v in rng.choice([-1, 1, 1]) * U(8, 60) * U(0.75, 1.25, 3)]))
    n = int(rng.integers(3, 15 if wide else 11))
    if rng.random() < (0.15 if hard else 0.03):
        n = 0
    kinds = list(rng.integers(0, 3, n)) + [DISC] * int(rng.choice([0, 1, 2, 4] if hard else [0, 0, 1, 2]))
    rng.shuffle(kinds)
    boxes = []
    for k in kinds:
        p = random_part(rng, int(k), lo, hi)
        ex, ey = part_half_extent(p)
        m = 18 if wide else 0
        for _ in range(20):
            x, y = U(-m, W + m), U(-m, H + m)
            b = (x - ex, y - ey, x + ex, y + ey)
            inx, iny = min(b[2], W) - max(b[0], 0), min(b[3], H) - max(b[1], 0)
            if not wide and inx * iny < 0.55 * 4 * ex * ey:
                continue                          # at least 55 % of the box inside the frame
            if all(overlap_min(b, q) <= 0.20 for q in boxes):
                p["x"], p["y"] = float(x), float(y)
                boxes.append(b)
                sc["parts"].append(p)
                break
    sc["post"] = dict(gain=float(U(0.8, 1.25)), contrast=float(U(0.85, 1.15)), gamma=float(U(0.85, 1.2)),
                      blur=float(U(0.3, 1.3)) if rng.random() < 0.4 else 0.0,
                      motion=int(rng.choice([3, 5, 7])) if rng.random() < 0.15 else 0,
                      noise=float(U(1, 9)), chroma=bool(rng.random() < 0.5),
                      jpeg=int(rng.integers(40, 96)) if rng.random() < 0.35 else 0)
    return sc


def overlap_min(a, b):
    """Intersection of two boxes over the area of the smaller one."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))


def window(W, H, x0, y0, x1, y1):
    x0, y0, x1, y1 = max(0, int(x0)), max(0, int(y0)), min(W, int(x1) + 1), min(H, int(y1) + 1)
    if x0 >= x1 or y0 >= y1:
        return None
    return slice(y0, y1), slice(x0, x1), (np.arange(x0, x1, dtype=np.float32) + 0.5)[None], \
        (np.arange(y0, y1, dtype=np.float32) + 0.5)[:, None]


def render(sc, rng):
    """Renders a scene. Returns the uint8 RGB frame and its truth: (class, x1, y1, x2, y2, visible)
    for every part with at least one visible pixel, in frame pixels."""
    W, H = sc["W"], sc["H"]
    X = (np.arange(W, dtype=np.float32) + 0.5)[None]
    Y = (np.arange(H, dtype=np.float32) + 0.5)[:, None]
    # belt: flat grey + travelling stripes + mottle
    st = sc["stripe"]
    ph = (X + st["slant"] * Y + st["phase"]) / st["period"]
    wave = np.where(ph - np.floor(ph) < 0.5, 1.0, -1.0) if st["square"] else np.sin(2 * math.pi * ph)
    lum = sc["belt"] + st["amp"] * wave.astype(np.float32)
    if sc["mottle"] > 0.2:
        low = rng.standard_normal((H // 24, W // 24)).astype(np.float32) * sc["mottle"]
        lum = lum + np.asarray(Image.fromarray(low).resize((W, H), Image.BILINEAR))
    img = lum[..., None] * np.asarray(sc["tint"], np.float32)
    for s in sc["seams"]:                        # dark band across the belt with one bright lip
        d = np.abs(X + s["lean"] * (Y - H / 2) - s["x"])
        k = np.clip(s["width"] / 2 - d + 0.5, 0, 1)
        img *= (1 - (1 - s["k"]) * k)[..., None]
        img += (s["lip"] * np.clip(1 - np.abs(X + s["lean"] * (Y - H / 2) - s["x"] - s["width"] / 2 - 1), 0, 1))[..., None]
    for s in sc["scratches"]:
        (ax, ay), (bx, by) = s["a"], s["b"]
        w = window(W, H, min(ax, bx) - 3, min(ay, by) - 3, max(ax, bx) + 3, max(ay, by) + 3)
        if w:
            ys, xs, px, py = w
            L2 = (bx - ax) ** 2 + (by - ay) ** 2
            t = np.clip(((px - ax) * (bx - ax) + (py - ay) * (by - ay)) / L2, 0, 1)
            d = np.hypot(px - ax - t * (bx - ax), py - ay - t * (by - ay))
            img[ys, xs] += (s["add"] * np.clip(s["width"] / 2 - d + 0.5, 0, 1))[..., None]
    for s in sc["dirt"]:                         # star-shaped blob: radius interpolated over 9 directions
        R = max(s["r"])
        w = window(W, H, s["x"] - R - 2, s["y"] - R - 2, s["x"] + R + 2, s["y"] + R + 2)
        if w:
            ys, xs, px, py = w
            dx, dy = px - s["x"], py - s["y"]
            a = (np.arctan2(dy, dx) / (2 * math.pi) % 1.0) * 9
            i = np.minimum(a.astype(np.int32), 8)
            r = np.asarray(s["r"] + s["r"][:1], np.float32)
            rad = r[i] + (r[i + 1] - r[i]) * (a - i)
            img[ys, xs] += np.clip((rad - np.hypot(dx, dy)) / 2 + 0.5, 0, 1)[..., None] * np.asarray(s["add"], np.float32)
    # parts, in list order (later ones on top): shadow first, then body
    owner = np.full((H, W), -1, np.int16)
    full = []
    sh = sc["shadow"]
    n = math.hypot(sh["dx"], sh["dy"]) or 1.0
    light = (-sh["dx"] / n, -sh["dy"] / n)       # the brighter side faces away from the shadow
    for i, p in enumerate(sc["parts"]):
        ex, ey = part_half_extent(p)
        x0, y0 = math.floor(p["x"] - ex) - 8, math.floor(p["y"] - ey) - 8
        w, h = int(2 * ex) + 18, int(2 * ey) + 18
        dx = (np.arange(x0, x0 + w, dtype=np.float32) + 0.5 - np.float32(p["x"]))[None]
        dy = (np.arange(y0, y0 + h, dtype=np.float32) + 0.5 - np.float32(p["y"]))[:, None]
        d, u, v, rho = part_sdf(p, dx, dy)
        a = np.clip(d / sc["edge"] + 0.5, 0, 1)  # edge softness; 0.02 is no anti-aliasing at all
        shadow = np.roll(a, (sh["dy"], sh["dx"]), (0, 1))
        body = np.asarray(p["color"], np.float32) * part_shade(p, u, v, rho, dx, dy, light)[..., None]
        full.append(int((a > 0.5).sum()))
        cx0, cy0, cx1, cy1 = max(0, -x0), max(0, -y0), min(w, W - x0), min(h, H - y0)
        if cx0 >= cx1 or cy0 >= cy1:
            continue
        q, f = (slice(cy0, cy1), slice(cx0, cx1)), (slice(y0 + cy0, y0 + cy1), slice(x0 + cx0, x0 + cx1))
        reg = img[f] * (1 - sh["k"] * shadow[q])[..., None]
        img[f] = reg + (body[q] - reg) * a[q][..., None]
        owner[f][a[q] > 0.5] = i
    # illumination, tone, blur, noise
    gx, gy, vg = sc["light"]
    xn, yn = X / W - 0.5, Y / H - 0.5
    po = sc["post"]
    img *= ((1 + gx * xn + gy * yn - vg * (xn * xn + yn * yn)) * po["gain"])[..., None]
    if po["contrast"] != 1.0:
        img = (img - 90) * po["contrast"] + 90
    if po["gamma"] != 1.0:
        img = 255 * np.power(np.clip(img, 0, 255) / 255, po["gamma"], dtype=np.float32)
    if po["blur"] > 0:
        im = Image.fromarray(np.clip(img + 0.5, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(po["blur"]))
        img = np.asarray(im, np.float32)
    if po["motion"]:
        m = po["motion"]
        pad = np.pad(img, ((0, 0), (m // 2, m // 2), (0, 0)), mode="edge")
        img = sum(pad[:, i:i + W] for i in range(m)) / np.float32(m)
    if po["noise"] > 0:
        shape = (H, W, 3) if po["chroma"] else (H, W, 1)
        img = img + rng.standard_normal(shape, dtype=np.float32) * np.float32(po["noise"])
    out = np.clip(img + 0.5, 0, 255).astype(np.uint8)
    if po["jpeg"]:
        buf = io.BytesIO()
        Image.fromarray(out).save(buf, "JPEG", quality=po["jpeg"])
        out = np.asarray(Image.open(buf))
    return out, truth_from_owner(sc, owner, full)


def truth_from_owner(sc, owner, full):
    """Boxes of the visible pixels of each target."""
    truth = []
    for i, p in enumerate(sc["parts"]):
        if p["kind"] == DISC:
            continue
        ex, ey = part_half_extent(p)
        w = window(sc["W"], sc["H"], p["x"] - ex - 3, p["y"] - ey - 3, p["x"] + ex + 3, p["y"] + ey + 3)
        if not w:
            continue
        m = owner[w[0], w[1]] == i
        if not m.any():
            continue
        xs, ys = np.flatnonzero(m.any(0)), np.flatnonzero(m.any(1))
        ox, oy = w[1].start, w[0].start
        truth.append((p["kind"], ox + xs[0], oy + ys[0], ox + xs[-1] + 1, oy + ys[-1] + 1, m.sum() / full[i]))
    return np.asarray(truth, np.float32).reshape(-1, 6)


def render_plain(sc, rng):
    """A second, deliberately different renderer, never used in training: Pillow's hard-edged
    polygons, ellipses and lines in flat colours. It stands for any other implementation of
    SCENE.md and measures how much the detector depends on this file's own shading."""
    W, H = sc["W"], sc["H"]
    st, X = sc["stripe"], np.arange(W) + 0.5
    lum = sc["belt"] + st["amp"] * np.where((X + st["phase"]) / st["period"] % 1 < 0.5, 1.0, -1.0)
    img = Image.fromarray(np.repeat(np.clip(lum[None, :, None] * np.asarray(sc["tint"]), 0, 255).astype(np.uint8), H, 0))
    dr = ImageDraw.Draw(img)
    tone = lambda c, k: tuple(int(min(255, max(0, v * k))) for v in c)
    base = tone([sc["belt"]] * 3, 1)
    for s in sc["seams"]:
        dr.line([(s["x"] - s["lean"] * -H / 2, 0), (s["x"] - s["lean"] * H / 2, H)], tone(base, s["k"]), max(1, round(s["width"])))
    for s in sc["scratches"]:
        dr.line([tuple(s["a"]), tuple(s["b"])], tone(base, 1 + s["add"] / 60), max(1, round(s["width"])))
    for s in sc["dirt"]:
        pts = [(s["x"] + r * math.cos(2 * math.pi * i / 9), s["y"] + r * math.sin(2 * math.pi * i / 9)) for i, r in enumerate(s["r"])]
        dr.polygon(pts, tone([b + a for b, a in zip(base, s["add"])], 1))
    owner, full, sh = np.full((H, W), -1, np.int16), [], sc["shadow"]
    for i, p in enumerate(sc["parts"]):
        S, c, s = p["size"], math.cos(p["angle"]), math.sin(p["angle"])
        at = lambda u, v, ox=0, oy=0: (p["x"] + ox + u * c - v * s, p["y"] + oy + u * s + v * c)
        circ = lambda r, ox=0, oy=0: [p["x"] + ox - r, p["y"] + oy - r, p["x"] + ox + r, p["y"] + oy + r]

        def silhouette(ox, oy, size):
            m = Image.new("L", size, 0)
            d = ImageDraw.Draw(m)
            if p["kind"] in (WASHER, DISC):
                d.ellipse(circ(S / 2, ox, oy), 255)
                if p["kind"] == WASHER:
                    d.ellipse(circ(p["hole"] * S / 2, ox, oy), 0)
            elif p["kind"] == NUT:
                d.polygon([at(S / 2 * math.cos(k * math.pi / 3), S / 2 * math.sin(k * math.pi / 3), ox, oy) for k in range(6)], 255)
                d.ellipse(circ(p["hole"] * S / 2 * math.cos(math.pi / 6), ox, oy), 0)
            else:
                h, w, k = p["head_len"] * S, p["head_w"] * S / 2, p["shank_w"] * S / 2
                q = 0.22 * 2 * w
                d.polygon([at(x - S / 2, y, ox, oy) for x, y in [(0, q - w), (q, -w), (h, -w), (h, w), (q, w), (0, w - q)]], 255)
                d.polygon([at(x - S / 2, y, ox, oy) for x, y in [(h - 1, -k), (S - 1, -k), (S, 1 - k), (S, k - 1), (S - 1, k), (h - 1, k)]], 255)
            return m

        sm = np.asarray(silhouette(sh["dx"], sh["dy"], (W, H)), np.float32) / 255
        arr = np.asarray(img, np.float32) * (1 - sh["k"] * sm)[..., None]
        img = Image.fromarray(arr.astype(np.uint8))
        m = silhouette(0, 0, (W, H))
        img.paste(tone(p["color"], 1), (0, 0), m)
        if p["kind"] == BOLT:
            dr = ImageDraw.Draw(img)
            h, k = p["head_len"] * S, p["shank_w"] * S / 2
            for t in np.arange(h + p["plain"] * (S - h) + 2, S - 2, p["pitch"]):
                dr.line([at(t - S / 2 - 0.8, -k + 1), at(t - S / 2 + 0.8, k - 1)], tone(p["color"], 0.6), 1)
            for y in (-p["head_w"] * S / 4, p["head_w"] * S / 4):
                dr.line([at(1 - S / 2, y), at(h - 1 - S / 2, y)], tone(p["color"], 0.75), 1)
        big = np.asarray(silhouette(200 - p["x"], 200 - p["y"], (400, 400)))
        full.append(int((big > 0).sum()))
        owner[np.asarray(m) > 0] = i
    g = sc["light"]
    k = 1 + g[0] * (X[None] / W - 0.5) + g[1] * ((np.arange(H) + 0.5)[:, None] / H - 0.5)
    arr = np.asarray(img, np.float32) * k[..., None] + rng.uniform(-1, 1, (H, W, 1)) * 8
    return np.clip(arr, 0, 255).astype(np.uint8), truth_from_owner(sc, owner, full)


# ============================================================================ 2. data
def letterbox(img, size=SIZE, how="bilinear"):
    """Aspect-preserving resize into size x size, grey 114 bars. Returns (uint8 image, scale, dx, dy):
    input = frame * scale + (dx, dy). `bilinear` samples at half-pixel centres without prefilter."""
    H, W = img.shape[:2]
    s = min(size / W, size / H)
    w, h = round(W * s), round(H * s)
    if how == "bilinear":
        def taps(n, m):
            f = (np.arange(n) + 0.5) * (m / n) - 0.5
            i = np.clip(np.floor(f).astype(int), 0, m - 1)
            return i, np.minimum(i + 1, m - 1), np.clip(f - i, 0, 1).astype(np.float32)
        (y0, y1, fy), (x0, x1, fx) = taps(h, H), taps(w, W)
        a = img.astype(np.float32)
        a = a[y0] + (a[y1] - a[y0]) * fy[:, None, None]
        a = a[:, x0] + (a[:, x1] - a[:, x0]) * fx[None, :, None]
        a = np.floor(a + 0.5).astype(np.uint8)
    else:
        m = dict(nearest=Image.NEAREST, area=Image.BOX, smooth=Image.BILINEAR, cubic=Image.BICUBIC)[how]
        a = np.asarray(Image.fromarray(img).resize((w, h), m))
    dx, dy = (size - w) // 2, (size - h) // 2
    out = np.full((size, size, 3), GREY, np.uint8)
    out[dy:dy + h, dx:dx + w] = a
    return out, s, dx, dy


def make_sample(seed, split, i, how=None, wide=False, plain=False):
    rng = np.random.default_rng([seed, split, i])
    W, H = (640, 640) if wide and rng.random() < 0.4 else (640, 480)
    sc = random_scene(rng, W, H, wide)
    img, t = (render_plain if plain else render)(sc, rng)
    how = how or str(rng.choice(["bilinear", "smooth", "cubic", "nearest"], p=[0.5, 0.25, 0.13, 0.12]))
    x, s, dx, dy = letterbox(img, SIZE, how)
    t = t.copy()
    t[:, 1:5] = t[:, 1:5] * s + np.asarray([dx, dy, dx, dy], np.float32)
    return x, t


def make_set(seed, split, n, label, **kw):
    t0 = time.time()
    out = [make_sample(seed, split, i, **kw) for i in range(n)]
    print(f"rendered {n} {label} images in {time.time() - t0:.0f} s", flush=True)
    return out


class Augment:
    """Cheap per-sample variation on top of the rendered pool: the 8 flips and quarter turns, a
    vertical shift of the letterboxed picture, tone curve per channel, noise, occasional blur."""

    def __init__(self, seed, phase):
        self.rng = np.random.default_rng([seed, 77 + phase])
        self.bank = self.rng.standard_normal((1 << 20), dtype=np.float32)

    def __call__(self, x, t):
        r = self.rng
        t = t.copy()
        if (x[0] == GREY).all() and r.random() < 0.3:
            k = int(r.integers(-40, 41))                       # bars stay grey, content moves
            if (x[:40] == GREY).all() and (x[-40:] == GREY).all():
                x = np.roll(x, k, 0)
                t[:, [2, 4]] += k
        if r.random() < 0.5:
            x, t[:, [1, 3]] = x[:, ::-1], SIZE - t[:, [3, 1]]
        if r.random() < 0.5:
            x, t[:, [2, 4]] = x[::-1], SIZE - t[:, [4, 2]]
        if r.random() < 0.5:
            x, t[:, 1:5] = x.transpose(1, 0, 2), t[:, [2, 1, 4, 3]]
        v = np.arange(256, dtype=np.float32) / 255
        g = r.uniform(0.75, 1.3) * r.uniform(0.94, 1.06, 3)
        off, gam = r.uniform(-0.06, 0.06), r.uniform(0.85, 1.18)
        lut = np.clip((v[:, None] ** gam - 0.35) * r.uniform(0.85, 1.15) + 0.35, 0, 2) * g + off
        y = np.empty(x.shape, np.float32)
        for c in range(3):
            y[..., c] = lut[:, c].astype(np.float32)[x[..., c]]
        q = r.random()
        if q < 0.45:
            n = SIZE * SIZE
            k = int(r.integers(0, len(self.bank) - n))
            y += (self.bank[k:k + n] * np.float32(r.uniform(0.003, 0.03))).reshape(SIZE, SIZE, 1)
        elif q < 0.6:
            y[1:-1] = (y[:-2] + 2 * y[1:-1] + y[2:]) * 0.25
            y[:, 1:-1] = (y[:, :-2] + 2 * y[:, 1:-1] + y[:, 2:]) * 0.25
        y[(x == GREY).all(-1)] = GREY / 255                    # the bars are always exactly grey
        return np.clip(y, 0, 1, out=y).transpose(2, 0, 1), t


# ============================================================================ 3. network
class Conv(nn.Module):
    """Convolution + batch norm + SiLU."""

    def __init__(self, i, o, k=1, s=1, groups=1):
        super().__init__()
        self.conv = nn.Conv2d(i, o, k, s, k // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(o, eps=1e-3, momentum=0.03)

    def forward(self, x):
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        return F.silu(x)


class Stage(nn.Module):
    """Cross-stage block: 1x1, half of it through one residual pair of 3x3, all concatenated, 1x1."""

    def __init__(self, i, o):
        super().__init__()
        self.h = o // 2
        self.enter, self.leave = Conv(i, 2 * self.h), Conv(3 * self.h, o)
        self.a, self.b = Conv(self.h, self.h, 3), Conv(self.h, self.h, 3)

    def forward(self, x):
        p, q = torch.split(self.enter(x), self.h, 1)
        return self.leave(torch.cat([p, q, q + self.b(self.a(q))], 1))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.b1 = Conv(3, 8, 3, 2)                                       # 160
        self.b2 = nn.Sequential(Conv(8, 16, 3, 2), Stage(16, 16))        # 80
        self.b3 = nn.Sequential(Conv(16, 32, 3, 2), Stage(32, 32))       # 40
        self.b4 = nn.Sequential(Conv(32, 64, 3, 2), Stage(64, 64))       # 20
        self.b5 = nn.Sequential(Conv(64, 80, 3, 2), Stage(80, 80), Conv(80, 48))   # 10
        self.up4, self.up3 = Stage(48 + 64, 48), Stage(48 + 32, 32)
        self.d3, self.dn4 = Conv(32, 32, 3, 2), Stage(32 + 48, 48)
        self.d4, self.dn5 = Conv(48, 48, 3, 2), Stage(48 + 48, 64)
        branch = lambda c, o: nn.Sequential(Conv(c, c, 3, groups=c), Conv(c, 32), nn.Conv2d(32, o, 1))
        self.box = nn.ModuleList(branch(c, 4 * REG) for c in (32, 48, 64))
        self.cls = nn.ModuleList(branch(c, NC) for c in (32, 48, 64))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
        for b, c in zip(self.box, self.cls):
            nn.init.normal_(b[-1].weight, std=0.01)
            b[-1].bias.data = (-0.5 * torch.arange(REG).float()).repeat(4)   # start with small boxes
            nn.init.normal_(c[-1].weight, std=0.01)
            c[-1].bias.data.fill_(-5.0)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x):
        """Per level [B, 64 + 3, h, w], joined to [B, 64 + 3, 2100]."""
        c3 = self.b3(self.b2(self.b1(x)))
        c4 = self.b4(c3)
        c5 = self.b5(c4)
        n4 = self.up4(torch.cat([self.up(c5), c4], 1))
        p3 = self.up3(torch.cat([self.up(n4), c3], 1))
        p4 = self.dn4(torch.cat([self.d3(p3), n4], 1))
        p5 = self.dn5(torch.cat([self.d4(p4), c5], 1))
        lv = [torch.cat([b(f), c(f)], 1) for f, b, c in zip((p3, p4, p5), self.box, self.cls)]
        return torch.cat([torch.reshape(v, (v.shape[0], 4 * REG + NC, (SIZE // s) ** 2)) for v, s in zip(lv, STRIDES)], 2)


def anchors():
    """Cell centres in grid units [2, 2100] and strides [1, 2100]."""
    pts, st = [], []
    for s in STRIDES:
        g = torch.arange(SIZE // s).float() + 0.5
        y, x = torch.meshgrid(g, g, indexing="ij")
        pts.append(torch.stack([x.reshape(-1), y.reshape(-1)]))
        st.append(torch.full((1, x.numel()), float(s)))
    return torch.cat(pts, 1), torch.cat(st, 1)


class Deploy(nn.Module):
    """The trained net with batch norm folded and the decoder inside."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        pts, st = anchors()
        self.register_buffer("pts", pts[None])
        self.register_buffer("st", st[None])
        self.bins = nn.Conv2d(REG, 1, 1, bias=False)
        self.bins.weight.data = torch.arange(REG).float().view(1, REG, 1, 1)

    def forward(self, images):
        box, cls = torch.split(self.net(images), [4 * REG, NC], 1)
        d = torch.reshape(box, (1, 4, REG, 2100)).transpose(1, 2)
        d = torch.reshape(self.bins(F.softmax(d, 1)), (1, 4, 2100))
        lt, rb = torch.split(d, 2, 1)
        a, b = self.pts - lt, self.pts + rb
        return torch.cat([torch.cat([(a + b) * 0.5, b - a], 1) * self.st, torch.sigmoid(cls)], 1)


def fold_bn(net):
    for m in net.modules():
        if isinstance(m, Conv) and m.bn is not None:
            m.conv = nn.utils.fusion.fuse_conv_bn_eval(m.conv.eval(), m.bn.eval())
            m.bn = None
    return net.eval()


# ============================================================================ 4. loss
class Loss:
    """Task-aligned assignment (score^0.5 * IoU^6, ten best cells per object), BCE on the scores,
    complete-IoU and distribution-focal loss on the boxes."""

    def __init__(self):
        pts, st = anchors()
        self.pts, self.st = pts.t().contiguous(), st.t().contiguous()     # [A, 2], [A, 1]
        self.cell = self.pts * self.st                                     # pixels
        self.bin = torch.arange(REG).float()

    def boxes(self, raw):
        d = raw.view(raw.shape[0], 4, REG, -1).permute(0, 3, 1, 2).softmax(-1) @ self.bin   # [B, A, 4]
        return torch.cat([self.pts - d[..., :2], self.pts + d[..., 2:]], -1) * self.st

    def __call__(self, out, truths):
        raw, logit = out[:, :4 * REG], out[:, 4 * REG:].transpose(1, 2)    # [B, 64, A], [B, A, 3]
        pred = self.boxes(raw)
        B, A = logit.shape[:2]
        G = max(1, max(len(t) for t in truths))
        lab, box, ok, ign = torch.zeros(B, G).long(), torch.zeros(B, G, 4), torch.zeros(B, G), torch.zeros(B, G)
        for i, t in enumerate(truths):
            if len(t):
                t = torch.from_numpy(t)
                lab[i, :len(t)], box[i, :len(t)] = t[:, 0].long(), t[:, 1:5]
                ok[i, :len(t)] = (t[:, 5] >= MIN_VISIBLE).float()
                ign[i, :len(t)] = (t[:, 5] < MIN_VISIBLE).float()
        with torch.no_grad():
            pad = ((12 - (box[..., 2:] - box[..., :2])).clamp(min=0) / 2)  # small boxes still own a cell
            lo, hi = (box[..., :2] - pad)[:, :, None], (box[..., 2:] + pad)[:, :, None]
            inside = ((self.cell > lo) & (self.cell < hi)).all(-1)         # [B, G, A]
            skip = (inside & (ign > 0)[..., None]).any(1)
            inside = inside & (ok > 0)[..., None]
            iou = self.pair_iou(box, pred)                                 # [B, G, A]
            sc = logit.sigmoid().transpose(1, 2).gather(1, lab[..., None].expand(B, G, A))
            al = sc.sqrt() * iou.pow(6) * inside
            val, idx = al.topk(10, -1)
            pos = torch.zeros_like(al).scatter_(-1, idx, (val > 1e-16).float())
            best = (iou * pos).argmax(1, keepdim=True)                     # one object per cell
            pos = pos * torch.zeros_like(pos).scatter_(1, best, 1.0)
            al = al * pos
            w = al / al.amax(-1, keepdim=True).clamp(min=1e-16) * (iou * pos).amax(-1, keepdim=True)
            fg = pos.sum(1) > 0                                            # [B, A]
            own = pos.argmax(1)                                            # [B, A]
            wt = w.sum(1)
            tgt = torch.zeros(B, A, NC).scatter_(2, lab.gather(1, own)[..., None], wt[..., None])
            keep = (fg | ~skip)[..., None].float()
            norm = tgt.sum().clamp(min=1.0)
        l_cls = (F.binary_cross_entropy_with_logits(logit, tgt, reduction="none") * keep).sum() / norm
        if not fg.any():
            return l_cls * 0.5, (l_cls.item(), 0.0, 0.0)
        tb = box.gather(1, own[..., None].expand(B, A, 4))[fg]
        wf = wt[fg]
        l_iou = ((1 - ciou(pred[fg], tb)) * wf).sum() / norm
        c, s = self.pts.expand(B, A, 2)[fg], self.st.expand(B, A, 1)[fg]
        d = torch.cat([c - tb[:, :2] / s, tb[:, 2:] / s - c], 1).clamp(0, REG - 1.01)
        lg = raw.view(B, 4, REG, A).permute(0, 3, 1, 2)[fg].log_softmax(-1)
        k = d.long()
        f = d - k
        l_dfl = -(lg.gather(2, k[..., None])[..., 0] * (1 - f) + lg.gather(2, k[..., None] + 1)[..., 0] * f).mean(1)
        l_dfl = (l_dfl * wf).sum() / norm
        return 0.5 * l_cls + 7.5 * l_iou + 1.5 * l_dfl, (l_cls.item(), l_iou.item(), l_dfl.item())

    @staticmethod
    def pair_iou(a, b):
        a, b = a[:, :, None], b[:, None]
        x = (torch.minimum(a[..., 2], b[..., 2]) - torch.maximum(a[..., 0], b[..., 0])).clamp_(min=0)
        y = (torch.minimum(a[..., 3], b[..., 3]) - torch.maximum(a[..., 1], b[..., 1])).clamp_(min=0)
        i = x * y
        sa, sb = [(q[..., 2] - q[..., 0]) * (q[..., 3] - q[..., 1]) for q in (a, b)]
        return i / (sa + sb - i).clamp(min=1e-6)


def ciou(p, t):
    wp, hp, wt, ht = p[:, 2] - p[:, 0], p[:, 3] - p[:, 1], t[:, 2] - t[:, 0], t[:, 3] - t[:, 1]
    iw = (torch.minimum(p[:, 2], t[:, 2]) - torch.maximum(p[:, 0], t[:, 0])).clamp(min=0)
    ih = (torch.minimum(p[:, 3], t[:, 3]) - torch.maximum(p[:, 1], t[:, 1])).clamp(min=0)
    iou = iw * ih / (wp * hp + wt * ht - iw * ih + 1e-6)
    cw = torch.maximum(p[:, 2], t[:, 2]) - torch.minimum(p[:, 0], t[:, 0])
    ch = torch.maximum(p[:, 3], t[:, 3]) - torch.minimum(p[:, 1], t[:, 1])
    dist = ((p[:, :2] + p[:, 2:] - t[:, :2] - t[:, 2:]) ** 2).sum(1) / 4 / (cw ** 2 + ch ** 2 + 1e-6)
    v = 4 / math.pi ** 2 * (torch.atan(wt / (ht + 1e-6)) - torch.atan(wp / (hp + 1e-6))) ** 2
    with torch.no_grad():
        a = v / (v - iou + 1 + 1e-6)
    return iou - dist - a * v


# ============================================================================ 5. decode and metrics
def iou_matrix(a, b):
    x = np.minimum(a[:, None, 2], b[None, :, 2]) - np.maximum(a[:, None, 0], b[None, :, 0])
    y = np.minimum(a[:, None, 3], b[None, :, 3]) - np.maximum(a[:, None, 1], b[None, :, 1])
    i = np.clip(x, 0, None) * np.clip(y, 0, None)
    area = lambda q: (q[:, 2] - q[:, 0]) * (q[:, 3] - q[:, 1])
    return i / np.maximum(area(a)[:, None] + area(b)[None] - i, 1e-9)


def decode(out, conf=0.4, iou=0.3, agnostic=False, limit=300):
    """output0 [7, 2100] -> rows (x1, y1, x2, y2, score, class) in input pixels. One class per
    column (the best), score >= conf, greedy NMS with IoU > iou suppressed, per class by default."""
    cls = out[4:].argmax(0)
    score = out[4:].max(0)
    k = np.flatnonzero(score >= conf)
    k = k[np.argsort(-score[k], kind="stable")][:limit]
    c, w = out[:2, k].T, out[2:4, k].T / 2
    det = np.concatenate([c - w, c + w, score[k, None], cls[k, None]], 1).astype(np.float32)
    if not len(det):
        return det
    off = 0 if agnostic else det[:, 5:] * 4096
    m = iou_matrix(det[:, :4] + off, det[:, :4] + off) > iou
    alive = np.ones(len(det), bool)
    for i in range(len(det)):
        if alive[i]:
            alive[i + 1:] &= ~m[i, i + 1:]
    return det[alive]


def evaluate(runner, data, iou_nms=0.3, agnostic=False):
    """COCO-style AP (101 recall points, IoU .50:.05:.95) at score >= 0.001, and precision/recall at
    score 0.4, IoU 0.5. Parts less visible than MIN_VISIBLE are ignored, as are detections on them."""
    thr = np.arange(0.5, 0.96, 0.05)
    rec = {c: [] for c in range(NC)}           # (score, hit per threshold, ignored per threshold)
    npos, tp, fp, fn = np.zeros(NC), np.zeros(NC), np.zeros(NC), np.zeros(NC)
    ious, wrong = [], 0
    for x, t in data:
        out = runner(x)
        det = decode(out, 0.001, iou_nms, agnostic)
        for c in range(NC):
            d, g = det[det[:, 5] == c], t[t[:, 0] == c]
            ig = g[:, 5] < MIN_VISIBLE
            npos[c] += (~ig).sum()
            m = iou_matrix(d[:, :4], g[:, 1:5]) if len(d) and len(g) else np.zeros((len(d), len(g)))
            hit, skip = np.zeros((len(d), 10), bool), np.zeros((len(d), 10), bool)
            for k, th in enumerate(thr):
                used = np.zeros(len(g), bool)
                for i in range(len(d)):
                    cand = np.flatnonzero((m[i] >= th) & ~used & ~ig) if len(g) else []
                    if len(cand):
                        j = cand[np.argmax(m[i, cand])]
                        used[j] = hit[i, k] = True
                        if k == 0 and d[i, 4] >= 0.4:
                            ious.append(m[i, j])
                    elif len(g) and (m[i, ig] >= min(th, 0.5)).any():
                        skip[i, k] = True
            rec[c] += [(d[i, 4], hit[i], skip[i]) for i in range(len(d))]
            on = d[:, 4] >= 0.4
            tp[c] += hit[on, 0].sum()
            fp[c] += (~hit[on, 0] & ~skip[on, 0]).sum()
            fn[c] += (~ig).sum() - hit[on, 0].sum()
        a = decode(out, 0.4, iou_nms, agnostic)
        g = t[t[:, 5] >= MIN_VISIBLE]
        if len(a) and len(g):
            m = iou_matrix(a[:, :4], g[:, 1:5])
            j = m.argmax(1)
            wrong += int(((m.max(1) > 0.5) & (a[:, 5] != g[j, 0])).sum())
    ap = np.zeros((NC, 10))
    for c in range(NC):
        r = sorted(rec[c], key=lambda q: -q[0])
        for k in range(10):
            h = np.asarray([q[1][k] for q in r if not q[2][k]], float)
            if not len(h):
                continue
            cum = np.cumsum(h)
            R, P = cum / npos[c], cum / np.arange(1, len(h) + 1)
            P = np.maximum.accumulate(P[::-1])[::-1]
            i = np.searchsorted(R, np.linspace(0, 1, 101), side="left")
            ap[c, k] = np.mean([P[q] if q < len(P) else 0.0 for q in i])
    pr = lambda a, b, z: dict(precision=float(a / max(a + b, 1)), recall=float(a / max(a + z, 1)))
    return dict(images=len(data), objects=int(npos.sum()), mAP50=float(ap[:, 0].mean()), mAP50_95=float(ap.mean()),
                **pr(tp.sum(), fp.sum(), fn.sum()), true_pos=int(tp.sum()), false_pos=int(fp.sum()), missed=int(fn.sum()),
                wrong_class=wrong, mean_iou=float(np.mean(ious)) if ious else 0.0,
                per_class={CLASSES[c]: dict(AP50=float(ap[c, 0]), AP50_95=float(ap[c].mean()), objects=int(npos[c]),
                                            **pr(tp[c], fp[c], fn[c])) for c in range(NC)})


def torch_runner(deploy):
    def f(x):
        with torch.inference_mode():
            return deploy(torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1))).float()[None] / 255)[0].numpy()
    return f


def ort_session(path, threads=1):
    import onnxruntime as ort
    o = ort.SessionOptions()
    o.intra_op_num_threads, o.inter_op_num_threads, o.log_severity_level = threads, 1, 3
    return ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])


def ort_runner(sess):
    def f(x):
        y = x.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
        return sess.run(["output0"], {"images": np.ascontiguousarray(y)})[0][0]
    return f


# ============================================================================ 6. training
def train(args):
    """Phase 0 trains from scratch on the wide scenes; phase 1 continues at a lower rate on fresh
    scenes full of clutter, mixed with a quarter of the first pool."""
    torch.manual_seed(args.seed)
    net, log = Net(), []
    val = make_set(args.seed, 2, 120, "progress-check", how="bilinear")
    if args.stage == "hard":
        ck = torch.load(args.weights)
        net.load_state_dict(ck["model"])
        log = ck["log"]
        pool = make_set(args.seed, 0, args.train_images // 4, "training", wide=True)
    else:
        pool = make_set(args.seed, 0, args.train_images, "training", wide=True)
        net = fit(args, net, pool, val, 0, args.epochs, args.lr, log)
    if args.hard_epochs:
        pool = pool[:args.train_images // 4] + make_set(args.seed, 8, args.hard_images, "cluttered training", wide="hard")
        fit(args, net, pool, val, 1, args.hard_epochs, args.lr * 0.35, log)


def fit(args, net, pool, val, phase, epochs, peak, log):
    net = net.to(memory_format=torch.channels_last)
    ema = {k: v.clone() for k, v in net.state_dict().items()}
    decay = [p for p in net.parameters() if p.ndim > 1]
    other = [p for p in net.parameters() if p.ndim <= 1]
    opt = torch.optim.AdamW([dict(params=decay, weight_decay=0.02), dict(params=other, weight_decay=0.0)], lr=peak, betas=(0.9, 0.99))
    loss, aug = Loss(), Augment(args.seed, phase)
    order = np.random.default_rng([args.seed, 5 + phase])
    per = len(pool) // args.batch
    total, step, t0 = per * epochs, 0, time.time()
    log.append({})
    for ep in range(epochs):
        net.train()
        idx, acc = order.permutation(len(pool)), np.zeros(4)
        for b in range(per):
            lr = peak * min(1.0, (step + 1) / 300) * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * step / total)))
            for g in opt.param_groups:
                g["lr"] = lr
            xs, ts = zip(*(aug(*pool[i]) for i in idx[b * args.batch:(b + 1) * args.batch]))
            x = torch.from_numpy(np.stack(xs)).contiguous(memory_format=torch.channels_last)
            l, parts = loss(net(x), ts)
            opt.zero_grad(set_to_none=True)
            l.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 10.0)
            opt.step()
            step += 1
            m = min(0.998, (1 + step) / (20 + step))
            with torch.no_grad():
                for n, v in net.state_dict().items():
                    if v.dtype.is_floating_point:
                        ema[n].lerp_(v, 1 - m)
                    else:
                        ema[n].copy_(v)
            acc += (l.item(), *parts)
        msg = f"phase {phase} epoch {ep + 1}/{epochs} {time.time() - t0:.0f} s loss {acc[0] / per:.3f} cls {acc[1] / per:.3f} iou {acc[2] / per:.4f} dfl {acc[3] / per:.3f}"
        if (ep + 1) % args.check_every == 0 or ep + 1 == epochs:
            e = Net()
            e.load_state_dict(ema)
            r = evaluate(torch_runner(Deploy(fold_bn(e)).eval()), val)
            msg += f" | mAP50 {r['mAP50']:.4f} mAP50-95 {r['mAP50_95']:.4f} P {r['precision']:.4f} R {r['recall']:.4f}"
        print(msg, flush=True)
        log[-1] = dict(phase=phase, seconds=time.time() - t0, steps=step, images=step * args.batch)
        torch.save(dict(model=ema, log=log), args.weights)
    net.load_state_dict(ema)
    return net


# ============================================================================ 7. export, golden frame, report
def count_macs(net):
    n = [0]
    hooks = [m.register_forward_hook(lambda m, i, o: n.__setitem__(0, n[0] + o.numel() * m.in_channels // m.groups * m.kernel_size[0] * m.kernel_size[1]))
             for m in net.modules() if isinstance(m, nn.Conv2d)]
    with torch.inference_mode():
        net(torch.zeros(1, 3, SIZE, SIZE))
    for h in hooks:
        h.remove()
    return n[0]


def export(deploy, path):
    import onnx
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(deploy, (torch.zeros(1, 3, SIZE, SIZE),), path, input_names=["images"], output_names=["output0"],
                          opset_version=17, dynamo=False, do_constant_folding=True)
    m = onnx.load(path)
    m.doc_string = m.graph.doc_string = ""
    m.graph.name = "parts"
    for n in m.graph.node:
        n.doc_string = ""
    m.producer_name, m.producer_version = "train.py", ""   # the name it had when the shipped file was made: part of its sha256
    del m.metadata_props[:]
    for k, v in dict(description="bolt / nut / washer demo detector, synthetic data only", license="Apache-2.0", task="detect", stride="32",
                     batch="1", imgsz="[320, 320]", names=str(dict(enumerate(CLASSES)))).items():
        p = m.metadata_props.add()
        p.key, p.value = k, v
    onnx.checker.check_model(m, full_check=True)
    onnx.save(m, path)
    return m


def golden_scene():
    """The fixed self-test frame: 8 whole parts (3 bolts, 3 nuts, 2 washers; steel, dark steel and
    brass), plus a seam, a scratch, a dirt blob and a plain disc, all of which must stay silent."""
    steel, brass, dark = [172.0, 176.0, 184.0], [205.0, 174.0, 112.0], [132.0, 136.0, 143.0]
    P = lambda kind, x, y, size, deg, color, **k: dict(kind=kind, x=float(x), y=float(y), size=float(size), angle=math.radians(deg),
                                                        color=color, slope=0.10, rim=0.82, **k)
    bolt = dict(head_len=0.24, head_w=0.42, shank_w=0.20, plain=0.25, pitch=4.5)
    return dict(
        W=640, H=480, belt=50.0, tint=[0.98, 1.0, 1.03], mottle=2.0, edge=1.0, light=[0.16, -0.12, 0.25],
        stripe=dict(period=32.0, amp=5.0, slant=0.15, phase=7.0, square=False), shadow=dict(dx=4, dy=3, k=0.42),
        seams=[dict(x=402.0, lean=0.05, width=3.0, k=0.6, lip=14.0)],
        scratches=[dict(a=[60.0, 250.0], b=[175.0, 292.0], width=1.4, add=24.0)],
        dirt=[dict(x=566.0, y=96.0, r=[12.0, 10.0, 14.0, 11.0, 9.0, 13.0, 12.0, 8.0, 11.0], add=[-16.0, -18.0, -20.0])],
        parts=[P(BOLT, 112, 96, 86, 28, steel, **bolt), P(NUT, 262, 84, 56, 12, steel, hole=0.56),
               P(WASHER, 470, 118, 60, 0, steel, hole=0.50), P(DISC, 330, 205, 40, 0, dark),
               P(WASHER, 96, 372, 44, 0, brass, hole=0.46), P(BOLT, 250, 330, 70, 115, brass, **bolt),
               P(NUT, 438, 318, 46, 40, brass, hole=0.54), P(NUT, 546, 404, 62, 5, dark, hole=0.60),
               P(BOLT, 552, 248, 64, 170, dark, **bolt)],
        post=dict(gain=1.05, contrast=1.0, gamma=1.0, blur=0.0, motion=0, noise=3.0, chroma=False, jpeg=0))


def detect(sess, img, conf=0.4, iou=0.3, how="bilinear", agnostic=False):
    x, s, dx, dy = letterbox(img, SIZE, how)
    d = decode(ort_runner(sess)(x), conf, iou, agnostic)
    d[:, :4] = (d[:, :4] - np.asarray([dx, dy, dx, dy], np.float32)) / s
    return d


def golden(sess, out, seed):
    sc = golden_scene()
    img, t = render(sc, np.random.default_rng([seed, 99]))
    png = os.path.join(out, "golden.png")
    Image.fromarray(img).save(png, optimize=True)
    img = np.asarray(Image.open(png).convert("RGB"))
    d = detect(sess, img)
    rows = [dict(**{"class": CLASSES[int(r[5])]}, class_id=int(r[5]), x=round(float(r[0] + r[2]) / 2, 2), y=round(float(r[1] + r[3]) / 2, 2),
                 width=round(float(r[2] - r[0]), 2), height=round(float(r[3] - r[1]), 2), confidence=round(float(r[4]), 4)) for r in d]
    truth = [dict(**{"class": CLASSES[int(q[0])]}, x=float(q[1] + q[3]) / 2, y=float(q[2] + q[4]) / 2, width=float(q[3] - q[1]), height=float(q[4] - q[2])) for q in t]
    # how much the answer moves when the caller resizes differently
    drift = {}
    for how in ("area", "smooth", "cubic", "nearest"):
        e = detect(sess, img, how=how)
        same = len(e) == len(d) > 0
        if same:
            m = iou_matrix(d[:, :4], e[:, :4])
            j = m.argmax(1)
            same = len(set(j)) == len(j) and bool((d[:, 5] == e[j, 5]).all())
        drift[how] = dict(same_objects=same, **(dict(max_box_px=round(float(np.abs(d[:, :4] - e[j, :4]).max()), 2), min_iou=round(float(m.max(1).min()), 4),
                                                     max_conf=round(float(np.abs(d[:, 4] - e[j, 4]).max()), 4)) if same else dict(count=len(e))))
    best_rest = 0.0                              # highest score that NMS does not explain away
    for r in detect(sess, img, conf=1e-5):
        if not len(d) or iou_matrix(r[None, :4], d[:, :4]).max() < 0.3:
            best_rest = max(best_rest, float(r[4]))
    doc = dict(image="golden.png", image_sha256=sha(png), width=640, height=480, model="parts.onnx", model_sha256=sha(os.path.join(out, "parts.onnx")),
               preprocess="letterbox to 320x320: scale 0.5, bilinear at half-pixel centres (= mean of each 2x2 block, rounded half up), 40 rows of grey 114 above and below; RGB, /255",
               postprocess="best class per column, score >= 0.4, greedy per-class NMS, IoU > 0.3 suppressed; boxes mapped back to the 640x480 frame",
               conf=0.4, iou=0.3, fields="x, y = box centre; width, height; all in frame pixels", detections=rows,
               highest_score_elsewhere=round(best_rest, 5), same_with_class_agnostic_nms=len(detect(sess, img, agnostic=True)) == len(d),
               suggested_check="same count and classes; each expected box matched with IoU >= 0.90 and confidence within 0.05",
               drift_with_other_resizers=drift, rendered_truth=truth, scene=sc,
               kinds_in_scene={"0": "bolt", "1": "nut", "2": "washer", "-1": "plain disc (must not be detected)"})
    with open(os.path.join(out, "golden.json"), "w") as f:
        json.dump(doc, f, indent=1)
        f.write("\n")
    return doc


def sha(path):
    return hashlib.sha256(open(path, "rb").read()).hexdigest()


def side_files(out):
    w = lambda n, s: open(os.path.join(out, n), "w").write(s)
    w("class_names.txt", "\n".join(CLASSES) + "\n")
    w("environment.json", json.dumps({
        "PREPROCESSING": {"auto-orient": {"enabled": True}, "resize": {"enabled": True, "width": SIZE, "height": SIZE, "format": "Fit (grey edges) in"}},
        "CLASS_MAP": {str(i): c for i, c in enumerate(CLASSES)}, "COLORS": dict(zip(CLASSES, ["#4F8EF7", "#F5A623", "#2ECC71"]))}, indent=1) + "\n")
    w("model_type.json", json.dumps({"project_task_type": "object-detection", "model_type": "yolov8n", "model_id": "parts/1"}) + "\n")


def finish(args):
    """Export, check, measure, golden frame. Writes metrics.json next to the weights."""
    ck = torch.load(args.weights)
    net = Net()
    net.load_state_dict(ck["model"])
    trainable = sum(p.numel() for p in net.parameters())
    dep = Deploy(fold_bn(net.eval())).eval()
    macs = count_macs(dep.net)
    path = os.path.join(args.out, "parts.onnx")
    m = export(dep, path)
    ops = {}
    for n in m.graph.node:
        ops[n.op_type] = ops.get(n.op_type, 0) + 1
    side_files(args.out)
    sess = ort_session(path)
    run, ref = ort_runner(sess), torch_runner(dep)
    val = make_set(args.seed, 6, args.val_images, "validation", how="bilinear")   # split 6 is used here only
    diff = np.zeros(7)
    for x, _ in val[:100]:
        diff = np.maximum(diff, np.abs(run(x) - ref(x)).max(1))
    x = np.ascontiguousarray(val[0][0].transpose(2, 0, 1)[None]).astype(np.float32) / 255
    ms = []
    for _ in range(300):
        t = time.perf_counter()
        sess.run(None, {"images": x})
        ms.append((time.perf_counter() - t) * 1e3)
    res = dict(params=trainable, folded_params=sum(p.numel() for p in dep.net.parameters()), macs=macs, gflop=2 * macs / 1e9, bytes=os.path.getsize(path), sha256=sha(path), ops=ops,
               max_abs_diff_box_px=float(diff[:4].max()), max_abs_diff_score=float(diff[4:].max()),
               ort_ms=dict(median=float(np.median(ms[20:])), p95=float(np.percentile(ms[20:], 95))),
               train=ck["log"], validation=evaluate(run, val))
    res["validation_one_class_per_object"] = evaluate(run, val, agnostic=True)
    plain = make_set(args.seed, 7, args.val_images, "other-renderer", how="bilinear", plain=True)
    res["other_renderer"] = evaluate(run, plain)
    res["validation_nearest_resize"] = evaluate(run, make_set(args.seed, 6, args.val_images, "nearest-resized", how="nearest"))
    empty, alarms = 0, 0
    for i in range(500):                          # belts with clutter and plain discs but no parts
        rng = np.random.default_rng([args.seed, 9, i])
        sc = random_scene(rng)
        sc["parts"] = [p for p in sc["parts"] if p["kind"] == DISC]
        alarms += len(detect(sess, render(sc, rng)[0]))
        empty += 1
    res["empty_belts"] = dict(images=empty, false_alarms=alarms)
    g = golden(sess, args.out, args.seed)
    res["golden"] = dict(count=len(g["detections"]), min_conf=min([d["confidence"] for d in g["detections"]], default=0), elsewhere=g["highest_score_elsewhere"])
    json.dump(res, open(args.metrics, "w"), indent=1)
    print(json.dumps(res, indent=1))


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--out", default=".", help="folder for parts.onnx, golden.*, and the side files")
    ap.add_argument("--stage", choices=["all", "train", "hard", "golden"], default="all")
    ap.add_argument("--weights", default="parts.pt")
    ap.add_argument("--metrics", default="metrics.json")
    ap.add_argument("--seed", type=int, default=20)
    ap.add_argument("--epochs", type=int, default=20)
    ap.add_argument("--train-images", type=int, default=6000)
    ap.add_argument("--hard-epochs", type=int, default=6)
    ap.add_argument("--hard-images", type=int, default=3000)
    ap.add_argument("--val-images", type=int, default=500)
    ap.add_argument("--batch", type=int, default=16)
    ap.add_argument("--lr", type=float, default=4e-3)
    ap.add_argument("--check-every", type=int, default=4)
    ap.add_argument("--threads", type=int, default=1)
    args = ap.parse_args()
    torch.set_num_threads(args.threads)
    os.makedirs(args.out, exist_ok=True)
    if args.stage in ("all", "train", "hard"):
        train(args)
    if args.stage in ("all", "golden"):
        finish(args)


if __name__ == "__main__":
    main()
