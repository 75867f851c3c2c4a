"""Compares our letterbox and stretch with the same steps in OpenCV and numpy, measured one after the other.

    PYTHON-WITH-CV2 benches/opencv_letterbox.py

Runs `cargo bench --bench preprocess -- --plain` for our side. Letterbox: cv2.resize of uint8, padding, HWC to CHW,
float32, / 255. Stretch: float32, cv2.resize, HWC to CHW, / 255, as Roboflow's classic engine. Medians over two seconds.
"""
import subprocess
import time

import cv2
import numpy as np

NET = 640
CAMERAS = [(1920, 1080), (1280, 720), (1600, 1200)]


def letterbox(image):
    height, width = image.shape[:2]
    ratio = width / height
    new_width, new_height = (NET, int(NET / ratio)) if ratio >= 1 else (int(NET * ratio), NET)
    resized = cv2.resize(image, (new_width, new_height))
    top, left = (NET - new_height) // 2, (NET - new_width) // 2
    padded = cv2.copyMakeBorder(
        resized, top, NET - new_height - top, left, NET - new_width - left, cv2.BORDER_CONSTANT, value=(114, 114, 114)
    )
    return np.ascontiguousarray(padded.transpose(2, 0, 1)).astype(np.float32) / np.float32(255)


def stretch(image):
    resized = cv2.resize(image.astype(np.float32), (NET, NET))
    return np.ascontiguousarray(resized.transpose(2, 0, 1)) / np.float32(255)


def median_ms(run, *arguments):
    times, started = [], time.perf_counter()
    while time.perf_counter() - started < 2:
        before = time.perf_counter()
        run(*arguments)
        times.append(time.perf_counter() - before)
    return sorted(times)[len(times) // 2] * 1e3


def main():
    plain = ["cargo", "bench", "--quiet", "--bench", "preprocess", "--", "--plain"]
    ours = {}
    for line in subprocess.run(plain, check=True, capture_output=True, text=True).stdout.splitlines():
        name, median = line.split()
        step, camera, kernel = name.split("_")
        ours.setdefault((step, camera), {})[kernel] = float(median)
    threads_default = cv2.getNumThreads()
    print(f"OpenCV {cv2.__version__}, numpy {np.__version__}, default {threads_default} threads; milliseconds, medians")
    print(f"{'step':10} {'camera':10} {'ours':>8} {'scalar':>8} {'cv2 x1':>8} {'cv2':>8}   ours is faster than")
    rng = np.random.default_rng(1)
    for width, height in CAMERAS:
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for step, run in [("letterbox", letterbox), ("stretch", stretch)]:
            kernels = ours[step, f"{width}x{height}"]
            scalar, fastest = kernels["scalar"], min(kernels.values())
            cv2.setNumThreads(1)
            single = median_ms(run, image)
            cv2.setNumThreads(threads_default)
            threaded = median_ms(run, image)
            print(
                f"{step:10} {width}x{height:<5} {fastest:8.3f} {scalar:8.3f} {single:8.3f} {threaded:8.3f}"
                f"   scalar {scalar / fastest:.1f}x, cv2 on one thread {single / fastest:.1f}x, cv2 {threaded / fastest:.1f}x"
            )


main()
