"""Answers what OpenCV, numpy and scikit-image do with an image: the other half of opencv_parity.rs.

Reads jobs from standard input and writes results to standard output, so that nothing is kept in files:
a job is a line `OPERATION WIDTH HEIGHT NEW_WIDTH NEW_HEIGHT` followed by HEIGHT*WIDTH*3 bytes of RGB; the result is the
raw bytes of the array, RGB, uint8 or little-endian float32; of outlines their SHA-256.
"""
import hashlib
import sys

import cv2
import numpy as np


def rescale_intensity(image):
    """skimage.exposure.rescale_intensity(image, in_range=np.percentile(image, (2, 98))) for uint8."""
    low, high = map(float, np.percentile(image, (2, 98)))
    clipped = np.clip(image, low, high)
    if low != high:
        clipped = (clipped - low) / (high - low)
        return (clipped * 255.0 + 0.0).astype(np.uint8)
    return np.clip(clipped, 0, 255).astype(np.uint8)


def via_grey(bgr, change):
    return cv2.cvtColor(change(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)), cv2.COLOR_GRAY2BGR)


def outlines(mask):
    """SHA-256 of the contours: of each the number of its points, then x and y of each, little-endian uint32."""
    contours = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    digest = hashlib.sha256()
    for contour in contours:
        digest.update(np.array([len(contour), *contour.flatten()], "<u4").tobytes())
    return digest.digest()


def answer(operation, bgr, size):
    if operation == "resize":
        return cv2.resize(bgr, size, interpolation=cv2.INTER_LINEAR)
    if operation == "resize_float":
        return cv2.resize(bgr.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) / np.float32(255)
    if operation == "grey":
        return via_grey(bgr, lambda grey: grey)
    if operation == "histogram":
        return via_grey(bgr, cv2.equalizeHist)
    if operation == "adaptive":
        return via_grey(bgr, cv2.createCLAHE(clipLimit=0.03, tileGridSize=(8, 8)).apply)
    if operation == "stretching":
        ours = rescale_intensity(bgr)
        try:
            from skimage.exposure import rescale_intensity as original
        except ImportError:
            return ours
        theirs = original(bgr, in_range=tuple(np.percentile(bgr, (2, 98))))
        assert np.array_equal(ours, theirs), "the formula here is not scikit-image's"
        return theirs
    raise SystemExit(f"unknown operation {operation}")


def main():
    cv2.setNumThreads(1)
    print("OpenCV", cv2.__version__, "numpy", np.__version__, file=sys.stderr)
    while line := sys.stdin.buffer.readline():
        operation, *numbers = line.decode().split()
        width, height, new_width, new_height = map(int, numbers)
        data = sys.stdin.buffer.read(width * height * 3)
        bgr = np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(height, width, 3)[:, :, ::-1])
        if operation == "outlines":
            sys.stdout.buffer.write(outlines(np.ascontiguousarray(bgr[:, :, 2])))
        else:
            result = answer(operation, bgr, (new_width, new_height))
            sys.stdout.buffer.write(np.ascontiguousarray(result[:, :, ::-1]).tobytes())
        sys.stdout.buffer.flush()


main()
