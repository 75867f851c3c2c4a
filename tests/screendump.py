"""What QEMU's screen shows: its monitor's `screendump`, read and looked at."""
import time
from pathlib import Path


class Dump:
    """A picture as the monitor writes it: PPM, 8 bits a colour."""

    def __init__(self, path):
        data = Path(path).read_bytes()
        kind, size, levels, self.pixels = data.split(b"\n", 3)
        if kind != b"P6" or levels != b"255":
            raise ValueError(f"{path}: expected a PPM, found {data[:20]!r}")
        self.width, self.height = map(int, size.split())
        if len(self.pixels) != self.width * self.height * 3:
            raise ValueError(f"{path}: {len(self.pixels)} bytes of {self.width}x{self.height} pixels")

    def share(self, colour, left, top, right, bottom):
        """How much of an area, by its edges in parts of the screen, is about of a colour."""
        columns = range(int(left * self.width), int(right * self.width))
        rows = range(int(top * self.height), int(bottom * self.height))
        near = sum(all(abs(level - wanted) < 12 for level, wanted in zip(self.pixels[at:at + 3], colour))
                   for y in rows for x in columns for at in [(y * self.width + x) * 3])
        return near / max(1, len(rows) * len(columns))


def wait(command, folder, fits, limit=60):
    """The first dump that fits, or the last that was made and does not; `command` says a line to the monitor."""
    path, dump = Path(folder) / "screen.ppm", None
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        command(f"screendump {path}")
        try:
            dump = Dump(path)
            if fits(dump):
                break
        except (OSError, ValueError):
            pass
        time.sleep(1)
    return dump
