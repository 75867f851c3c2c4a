"""File systems and archives, written so that the same content gives the same bytes."""

import gzip
import os
import stat
import tarfile
from pathlib import Path

from .tools import EPOCH, ImageError, run

MIB = 1 << 20
# "FLST": of the disk's label and of every FAT.
SERIAL = 0x464C5354
# Of the data file system, on every device: it is found by its place and label, never by this.
DATA_UUID = "464c5354-0000-4000-8000-000000000001"


def set_modes(root, executable):
    """Modes of a tree as this user's umask has no say in: 755 for folders and the paths named, 644 for all else."""
    for folder, _, files in os.walk(root):
        os.chmod(folder, 0o755)
        for path in (Path(folder) / name for name in files):
            if not path.is_symlink():
                os.chmod(path, 0o755 if path.relative_to(root).as_posix() in executable else 0o644)


def initramfs(root, output, kernel):
    """Packs a tree into a "newc" archive (Documentation/driver-api/early-userspace/buffer-format.rst of Linux), with
    `/dev/console`, which the kernel opens for the first process."""
    # -19 unpacks as fast as -1 and is read from a slow card.
    compress = ["zstd", "-q", "-19", "-T0", "-c"] if kernel.has("RD_ZSTD") else ["gzip", "-n", "-9", "-c"]
    plain = output.with_suffix(".cpio")
    with open(plain, "wb") as archive:
        entries = [(path.relative_to(root).as_posix(), path) for path in sorted(root.rglob("*"))]
        for number, (name, path) in enumerate(entries, 1):
            if path.is_symlink():
                newc(archive, number, name, stat.S_IFLNK | 0o777, os.readlink(path).encode())
            elif path.is_dir():
                newc(archive, number, name, stat.S_IFDIR | 0o755)
                if name == "dev":
                    newc(archive, len(entries) + 1, "dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
            else:
                newc(archive, number, name, stat.S_IFREG | (path.stat().st_mode & 0o777), path.read_bytes())
        newc(archive, 0, "TRAILER!!!", 0)
    with open(output, "wb") as compressed:
        run([*compress, plain], stdout=compressed)
    plain.unlink()


def newc(archive, number, name, mode, data=b"", device=(0, 0)):
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = [number, mode, 0, 0, links, EPOCH if mode else 0, len(data), 0, 0, *device, len(name) + 1, 0]
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    for part in (header, data):
        archive.write(part + bytes(-len(part) % 4))


def squashfs(root, output, kernel):
    """Packs a tree. A card is slower than a processor, so what packs best among what the kernel unpacks."""
    method = next((m for m in ("zstd", "lz4", "zlib") if kernel.has(f"SQUASHFS_{m.upper()}")), None)
    if not method:
        raise ImageError(f"kernel {kernel.version}: its configuration names no squashfs method (zstd, lz4, zlib)")
    options = {"zstd": ["-comp", "zstd", "-Xcompression-level", "19"], "lz4": ["-comp", "lz4", "-Xhc"],
               "zlib": ["-comp", "gzip"]}[method]
    run(["mksquashfs", root, output, *options, "-all-root", "-no-xattrs", "-noappend", "-no-progress", "-quiet",
         "-mkfs-time", EPOCH, "-all-time", EPOCH], changes={"SOURCE_DATE_EPOCH": None})


def ext4(output, mib):
    """An empty file system, with features that every kernel since 4.19 has, named here and not by the distribution."""
    with open(output, "wb") as file:
        file.truncate(mib * MIB)
    config = output.with_suffix(".conf")
    config.write_text("[fs_types]\next4 = {\nblocksize = 4096\n}\nsmall = {\nblocksize = 4096\n}\n")
    features = ("none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,"
                "dir_nlink,extra_isize,metadata_csum")
    # The smallest journal: what is written here is small, and a flash that is written less lives longer.
    run(["mke2fs", "-q", "-t", "ext4", "-O", features, "-b", "4096", "-I", "256", "-i", "16384", "-m", "0",
         "-J", "size=4", "-U", DATA_UUID, "-L", "data",
         "-E", f"hash_seed={DATA_UUID},lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0", output],
        changes={"MKE2FS_CONFIG": str(config)})


def fat(output, mib, label, files):
    """A FAT of a size with files by their path there. FAT32 from 64 MiB on; a Pi's ROM reads no FAT12."""
    sectors = mib * MIB // 512
    kind = ["-F", "-c", "1"] if mib >= 64 else ["-c", "2" if mib >= 16 else "1"]
    with open(output, "wb") as file:
        file.truncate(mib * MIB)
    run(["mformat", "-i", output, "-T", sectors, "-h", 255, "-s", 63, *kind, "-N", f"{SERIAL:08x}", "-v", label, "::"])
    made = set()
    for name, content in sorted(files.items()):
        for folder in reversed(Path(name).parents[:-1]):
            if folder not in made:
                run(["mmd", "-i", output, f"::/{folder}"])
                made.add(folder)
        if isinstance(content, bytes):
            staged = output.with_suffix(".file")
            staged.write_bytes(content)
        else:
            staged = content
        try:
            run(["mcopy", "-i", output, staged, f"::/{name}"])
        except ImageError as error:
            if "full" in str(error).lower():
                total = sum(len(c) if isinstance(c, bytes) else c.stat().st_size for c in files.values())
                raise ImageError(f"{label}: {total / MIB:.1f} MiB of files do not fit into {mib} MiB; "
                                 "raise [image] boot_mib of the board file") from error
            raise
        if isinstance(content, bytes):
            staged.unlink()


def used_bytes(path):
    """Length of a file up to its last block that is not zero."""
    end = 0
    for offset, block in blocks(path):
        end = offset + len(block)
    return end


def blocks(path):
    """The blocks of a file that are not zero, each with its offset."""
    with open(path, "rb") as file:
        offset = 0
        while block := file.read(64 << 10):
            if block.count(0) != len(block):
                yield offset, block
            offset += len(block)


def paste(source, image, at):
    """Copies a file into an open image, leaving holes."""
    for offset, block in blocks(source):
        image.seek(at + offset)
        image.write(block)


def tar_gz(root, output):
    """Packs a tree, owned by root."""
    with open(output, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed, \
            tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            # The folders that the system has already stay as they are.
            if path.is_symlink() or not path.is_dir() or "firstlight" in name:
                add(archive, name, path)


def add(archive, name, path, mtime=EPOCH):
    """Adds one file to a tar, with no trace of who packed it."""
    entry = archive.gettarinfo(path, name)
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mtime = mtime
    entry.mode = 0o755 if entry.isdir() or path.stat().st_mode & 0o100 else 0o644
    if entry.isreg():
        # A file with two names would be a link to the first one.
        entry.type = tarfile.REGTYPE
        with open(path, "rb") as content:
            archive.addfile(entry, content)
    else:
        archive.addfile(entry)
