"""The whole disk: partitions, the slot environment block, and the bundle that updates a slot."""

import hashlib
import json
import os
import shutil
import struct
import tarfile
import zlib

from . import files
from .files import MIB
from .tools import EPOCH, ImageError, run

SECTOR = 512
# Where U-Boot and the device look for the two copies, outside of every partition.
ENVIRONMENT_OFFSETS = (MIB, MIB + (64 << 10))
ENVIRONMENT_BYTES = 512
SELECT_MIB = 16


def environment(version):
    """The block as U-Boot's `env import -c` reads it: CRC-32, `key=value` each with a NUL, a NUL, zeros."""
    values = {"a": f"ready:{version}", "b": "empty", "slot": "A", "trial": "", "tried": "0", "why": ""}
    data = b"".join(f"{key}={value}\0".encode() for key, value in values.items()) + b"\0"
    data = data.ljust(ENVIRONMENT_BYTES - 4, b"\0")
    if len(data) != ENVIRONMENT_BYTES - 4:
        raise ImageError(f"--version {version}: too long for the slot environment block")
    return struct.pack("<I", zlib.crc32(data)) + data


def layout(board):
    """Partitions in order: (number, name, offset, size), MiB. A logical one has its own table in the MiB before it."""
    sizes = board["image"]
    boot, root, data = sizes["boot_mib"], sizes["root_mib"], sizes["data_mib"]
    table, at = [], 4
    for number, name, mib, gap in ((1, "select", SELECT_MIB, 0), (2, "boot A", boot, 0), (3, "boot B", boot, 0),
                                   (5, "root A", root, 1), (6, "root B", root, 1), (7, "data", data, 1)):
        at += gap
        table.append((number, name, at, mib))
        at += mib
    return table


def write(image, board, version, select, boot, root, data):
    """Makes the image: slot A full, slot B empty."""
    table = layout(board)
    places = {name: offset for _, name, offset, _ in table}
    end = table[-1][2] + table[-1][3]
    lines = ["label: dos", f"label-id: 0x{files.SERIAL:08x}", "unit: sectors"]
    for number, name, offset, mib in table:
        kind = "c" if number < 4 else "83"
        flags = ", bootable" if number == 1 else ""
        if number == 5:
            lines.append(f"4 : start={(offset - 1) * MIB // SECTOR}, size={(end - offset + 1) * MIB // SECTOR}, type=f")
        lines.append(f"{number} : start={offset * MIB // SECTOR}, size={mib * MIB // SECTOR}, type={kind}{flags}")
    partial = image.with_name(f".{image.name}.{os.getpid()}")
    try:
        with open(partial, "wb") as file:
            file.truncate(end * MIB)
        run(["sfdisk", "-q", "--no-reread", "--no-tell-kernel", partial], text="\n".join(lines) + "\n")
        with open(partial, "r+b") as file:
            for offset in ENVIRONMENT_OFFSETS:
                file.seek(offset)
                file.write(environment(version))
            for name, content in (("select", select), ("boot A", boot), ("root A", root), ("data", data)):
                files.paste(content, file, places[name] * MIB)
        os.replace(partial, image)
    finally:
        partial.unlink(missing_ok=True)
    return table


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bundle(output, board, version, secret_key, boot, root, work):
    """Writes the signed update of a slot."""
    folder = work / "bundle"
    folder.mkdir()
    # A FAT is zero after its last file: those zeros need not travel.
    shutil.copyfile(boot, folder / "boot.vfat")
    os.truncate(folder / "boot.vfat", files.used_bytes(boot))
    os.link(root, folder / "root.squashfs")
    parts = []
    for name, file in (("boot", "boot.vfat"), ("root", "root.squashfs")):
        path = folder / file
        parts.append({"name": name, "file": file, "bytes": path.stat().st_size, "sha256": sha256(path)})
    manifest = {"format": 1, "board": board["name"], "version": version, "parts": parts}
    (folder / "manifest.json").write_text(json.dumps(manifest) + "\n")
    signed = f"firstlight {board['name']} {version}"
    # Without a comment of ours minisign writes the time of the day. It may ask for the key's password.
    run(["minisign", "-S", "-s", secret_key, "-m", folder / "manifest.json", "-c", "Firstlight update", "-t", signed],
        interactive=True)
    partial = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as archive:
            for name in ("manifest.json", "manifest.json.minisig", "boot.vfat", "root.squashfs"):
                files.add(archive, name, folder / name, EPOCH)
        os.replace(partial, output)
    finally:
        partial.unlink(missing_ok=True)
