"""Answers what OpenCV, numpy, scikit-image and Pillow do with an image: the other half of opencv_parity.rs.

Reads jobs from standard input and writes results to standard output, so that nothing is kept in files:
a job is a line `OPERATION WIDTH HEIGHT NEW_WIDTH NEW_HEIGHT` followed by HEIGHT*WIDTH*3 bytes of RGB; the result is the
raw bytes of the array, RGB, uint8 or little-endian float32; of outlines their SHA-256. What a camera gives comes in rows
of WIDTH*3 bytes, padding included; NEW_WIDTH and NEW_HEIGHT are the picture's size.
"""
import hashlib
import sys
import warnings

import cv2
import numpy as np
from PIL import Image
from skimage import exposure

# Of ImageNet, blue first.
MEAN = np.array([0.406, 0.456, 0.485], np.float32)
DEVIATION = np.array([0.225, 0.224, 0.229], np.float32)


def via_grey(bgr, change):
    return cv2.cvtColor(change(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)), cv2.COLOR_GRAY2BGR)


def outlines(mask):
    """SHA-256 of the contours: of each the number of its points, then x and y of each, little-endian uint32."""
    contours = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    digest = hashlib.sha256()
    for contour in contours:
        digest.update(np.array([len(contour), *contour.flatten()], "<u4").tobytes())
    return digest.digest()


def of_camera(operation, rows, size):
    """As cv2.VideoCapture converts what V4L2 gives."""
    width, height = size
    if operation == "camera_yuyv":
        pairs = np.ascontiguousarray(rows[:, : width * 2]).reshape(height, width, 2)
        return cv2.cvtColor(pairs, cv2.COLOR_YUV2BGR_YUYV)
    if operation == "camera_nv12":
        return cv2.cvtColor(np.ascontiguousarray(rows[:, :width]), cv2.COLOR_YUV2BGR_NV12)
    if operation == "camera_grey":
        return cv2.cvtColor(np.ascontiguousarray(rows[:, :width]), cv2.COLOR_GRAY2BGR)
    raise SystemExit(f"unknown operation {operation}")


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
        return exposure.rescale_intensity(bgr, in_range=tuple(np.percentile(bgr, (2, 98))))
    if operation == "histogram_in_colour":
        return (exposure.equalize_hist(bgr.astype(np.float32) / 255) * 255).astype(np.uint8)
    if operation == "adaptive_in_colour":
        return (exposure.equalize_adapthist(bgr.astype(np.float32) / 255, clip_limit=0.03) * 255).astype(np.uint8)
    if operation == "antialias":
        # One side at a time: from version 13 on Pillow begins with the side that is cheaper, before with the width.
        columns = Image.fromarray(bgr).resize((size[0], bgr.shape[0]), Image.BILINEAR)
        return np.array(columns.resize(size, Image.BILINEAR))
    if operation == "resize_normalised":
        normalised = (bgr.astype(np.float32) / np.float32(255) - MEAN) / DEVIATION
        return cv2.resize(normalised, size, interpolation=cv2.INTER_LINEAR)
    raise SystemExit(f"unknown operation {operation}")


def main():
    cv2.setNumThreads(1)
    # A picture of few colours is no mistake here.
    warnings.simplefilter("ignore")
    print("OpenCV", cv2.__version__, "numpy", np.__version__, file=sys.stderr)
    while line := sys.stdin.buffer.readline():
        operation, *numbers = line.decode().split()
        width, height, new_width, new_height = map(int, numbers)
        data = sys.stdin.buffer.read(width * height * 3)
        bgr = np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(height, width, 3)[:, :, ::-1])
        if operation == "outlines":
            sys.stdout.buffer.write(outlines(np.ascontiguousarray(bgr[:, :, 2])))
        elif operation.startswith("camera_"):
            rows = np.frombuffer(data, np.uint8).reshape(height, width * 3)
            result = of_camera(operation, rows, (new_width, new_height))
            sys.stdout.buffer.write(np.ascontiguousarray(result[:, :, ::-1]).tobytes())
        else:
            result = answer(operation, bgr, (new_width, new_height))
            sys.stdout.buffer.write(np.ascontiguousarray(result[:, :, ::-1]).tobytes())
        sys.stdout.buffer.flush()


main()
