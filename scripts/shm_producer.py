#!/usr/bin/env python3
"""Writes raw pictures from standard input into shared memory, for `firstlight run --source shm:PATH`.

  ffmpeg -i rtsp://camera/ -f rawvideo -pix_fmt rgb24 - | scripts/shm_producer.py /dev/shm/camera 640 480

An example to copy from, with nothing but Python's own library: the layout is described in src/source/shm/layout.rs. Pixels
are RGB3 (as rgb24), YUYV (yuyv422), NV12 (nv12) or GREY (gray). Ends with its input.
"""

import argparse
import os
import select
import struct
import sys
import time

SLOTS = 4
HEADER = 64
SLOT_HEAD = 64
# Twice a second at least: a reader gives a producer up after two seconds without a sign of life.
SIGN_OF_LIFE_S = 0.5
BYTES = {"RGB3": lambda w, h: 3 * w * h, "YUYV": lambda w, h: 2 * w * h, "GREY": lambda w, h: w * h,
         "NV12": lambda w, h: w * h * 3 // 2}


class Producer:
    def __init__(self, path, width, height, pixels):
        self.picture = BYTES[pixels](width, height)
        self.slot = SLOT_HEAD + (self.picture + 63) // 64 * 64
        self.path, self.written = path, 0
        # A reader never sees a file that is not whole: a new one is made and renamed over the old one.
        new = f"{path}.{os.getpid()}"
        self.file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        os.ftruncate(self.file, HEADER + SLOTS * self.slot)
        head = struct.pack("<8sIIIII4sQQQQ", b"FLFRAMES", 1, SLOTS, width, height, 0, pixels.encode(), self.slot,
                           # Another producer has another number, also one with the same process id.
                           time.monotonic_ns(), 0, time.monotonic_ns())
        os.pwrite(self.file, head, 0)
        os.rename(new, path)

    def write(self, pixels, taken_ns):
        """Writes a frame: the slot says that it is being written until it is whole, the header counts it then."""
        at = HEADER + self.written % SLOTS * self.slot
        os.pwrite(self.file, struct.pack("<QQ", 2 * self.written + 1, taken_ns), at)
        os.pwrite(self.file, pixels, at + SLOT_HEAD)
        os.pwrite(self.file, struct.pack("<Q", 2 * self.written + 2), at)
        self.written += 1
        self.live()

    def live(self):
        """Says that the producer lives, and how many frames there are."""
        os.pwrite(self.file, struct.pack("<QQ", self.written, time.monotonic_ns()), 48)

    def close(self):
        os.unlink(self.path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", help="for instance /dev/shm/camera")
    parser.add_argument("width", type=int)
    parser.add_argument("height", type=int)
    parser.add_argument("--pixels", choices=BYTES, default="RGB3")
    args = parser.parse_args()
    producer = Producer(args.path, args.width, args.height, args.pixels)
    source, picture = sys.stdin.fileno(), bytearray()
    while True:
        if select.select([source], [], [], SIGN_OF_LIFE_S)[0]:
            piece = os.read(source, producer.picture - len(picture))
            if not piece:
                break
            picture += piece
        if len(picture) == producer.picture:
            producer.write(picture, time.monotonic_ns())
            picture = bytearray()
        else:
            producer.live()
    producer.close()


if __name__ == "__main__":
    main()
