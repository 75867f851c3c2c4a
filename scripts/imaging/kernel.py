"""A kernel: where it comes from, and of its modules those that a device loads.

A device has no modprobe, so what modprobe would find by aliases and soft dependencies is settled here: `modules.dep` of
the image names, for each module, all that must be loaded before it.
"""

import difflib
import gzip
import lzma
import os
import re
import shutil
from pathlib import Path

from .tools import ImageError, run, say

DEBIAN = {"aarch64": "arm64", "x86_64": "amd64"}
# The linux/arch/arm64 Documentation/booting: "magic" at byte 56 of an Image.
ARM64_MAGIC = (56, b"ARMd")


def fetch(package, architecture, target):
    """The path of a Debian package of an architecture, of the release that this machine's apt knows.

    Verified by apt's signatures. Nothing of the system changes: apt works in `target`. A package that was fetched
    before is not looked for again.
    """
    debs = target / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    note = debs / f"{package}_{architecture}.fetched"
    if note.exists() and (debs / note.read_text().strip()).exists():
        return debs / note.read_text().strip()
    state = target / f"apt-{architecture}"
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / "state/status").touch()
    conf = state / "apt.conf"
    conf.write_text(
        f'APT::Architecture "{architecture}";\nAPT::Architectures {{ "{architecture}"; }};\n'
        f'Dir::State "{state}/state";\nDir::State::status "{state}/state/status";\nDir::Cache "{state}/cache";\n'
        # Apt would otherwise fetch as a user who may not write here.
        'APT::Sandbox::User "";\n'
    )
    apt = {"APT_CONFIG": str(conf), "SOURCE_DATE_EPOCH": None}
    say(f"fetching {package} ({architecture}) with apt")
    try:
        run(["apt-get", "update", "-q"], changes=apt)
        # `linux-image-arm64` is empty and depends on the kernel of the day.
        depends = run(["apt-cache", "depends", "--no-recommends", "--no-suggests", package], changes=apt)
        real = re.search(r"^ *Depends: (linux-image-\d\S+)$", depends, re.MULTILINE)
        name = real[1] if real else package
        uri = run(["apt-get", "download", "--print-uris", name], changes=apt).split()
        file = Path(uri[1]).name
        download = debs / f"partial-{os.getpid()}"
        download.mkdir()
        run(["env", "-C", download, "apt-get", "download", "-q", name], changes=apt)
        os.replace(next(download.iterdir()), debs / file)
        download.rmdir()
    except (ImageError, IndexError, StopIteration) as error:
        raise ImageError(f"{package} ({architecture}) could not be fetched: {error}\n"
                         "  give a .deb file or an extracted directory instead") from error
    note.write_text(file + "\n")
    return debs / file


def tree(given, architecture, target):
    """The directory tree of a Debian package: of a directory itself, a .deb file or a package name."""
    path = Path(given)
    if path.is_dir():
        return path
    if not path.is_file():
        if "/" in given or given.endswith(".deb"):
            raise ImageError(f"{given}: no such file or directory")
        path = fetch(given, DEBIAN[architecture], target)
    stat = path.stat()
    extracted = target / "debs" / f"{path.stem}-{stat.st_size}-{stat.st_mtime_ns}"
    if not extracted.exists():
        partial = target / "debs" / f"partial-{os.getpid()}"
        partial.mkdir(parents=True)
        run(["dpkg-deb", "-x", path, partial])
        os.rename(partial, extracted)
    return extracted


def normal(name):
    """`kernel/fs/nls/nls_iso8859-1.ko.xz` and `nls_iso8859-1` → `nls_iso8859_1`: in names - and _ are the same."""
    return re.sub(r"\.ko(\.\w+)?$", "", name.rsplit("/", 1)[-1]).replace("-", "_")


class Kernel:
    """One kernel of a Debian package's tree. `work` is an empty folder for depmod's files."""

    def __init__(self, root, work):
        self.root = root
        found = sorted(path for pattern in ("boot/vmlinuz-*", "boot/Image-*") for path in root.glob(pattern))
        if len(found) != 1:
            raise ImageError(f"{root}: {len(found)} kernels at boot/vmlinuz-VERSION, expected 1")
        self.image = found[0]
        self.version = self.image.name.split("-", 1)[1]
        config = root / f"boot/config-{self.version}"
        self.config = config.read_text() if config.exists() else ""
        folders = [root / prefix / "lib/modules" / self.version for prefix in ("", "usr")]
        self.folder = next((folder for folder in folders if folder.is_dir()), None)
        if not self.folder:
            raise ImageError(f"{root}: lib/modules/{self.version} is not there, the modules of boot/{self.image.name}")
        self._depmod(work)

    def _depmod(self, work):
        # A package has no modules.dep: that is made when it is installed. Links, so that the tree stays as it is.
        listing = work / "lib/modules" / self.version
        listing.mkdir(parents=True)
        for entry in self.folder.iterdir():
            if entry.name not in ("build", "source"):
                (listing / entry.name).symlink_to(entry.resolve())
        for name in ("dep", "alias", "softdep"):
            (listing / f"modules.{name}").unlink(missing_ok=True)
        run(["depmod", "-b", work, self.version])
        lines = [line.split(":", 1) for line in (listing / "modules.dep").read_text().splitlines()]
        self.paths = {normal(path): path for path, _ in lines}
        self.needs = {normal(path): [normal(needed) for needed in needs.split()] for path, needs in lines}
        builtin = self.folder / "modules.builtin"
        self.builtin = {normal(line): line for line in builtin.read_text().split()} if builtin.exists() else {}
        aliases = {}
        for line in (listing / "modules.alias").read_text().splitlines():
            if line.startswith("alias ") and len(words := line.split()) == 3:
                aliases.setdefault(words[1].replace("-", "_"), []).append(normal(words[2]))
        for line in (listing / "modules.softdep").read_text().splitlines():
            if match := re.match(r"softdep (\S+) .*?pre: ([^:]*?)(?: post:.*)?$", line):
                for name in map(normal, match[2].split()):
                    wanted = [name] if name in self.paths else aliases.get(name, [])
                    self.needs.get(normal(match[1]), []).extend(wanted)

    def has(self, option):
        """Whether the kernel was built with `CONFIG_{option}=y`."""
        return f"\nCONFIG_{option}=y\n" in self.config

    def order(self, names, seen):
        """Modules and all that they need, each after what it needs; `seen` are those that came before."""
        ordered = []
        for name in names:
            if name in self.paths and name not in seen:
                seen.add(name)
                ordered += [*self.order(self.needs[name], seen), name]
        return ordered

    def missing(self, names):
        """Of the modules named, those that this kernel has neither as a file nor built in."""
        return [name for name in names if normal(name) not in self.paths and normal(name) not in self.builtin]

    def suggestion(self, name):
        near = difflib.get_close_matches(normal(name), [*self.paths, *self.builtin], 1)
        return f"; the nearest is {near[0]}" if near else ""

    def install(self, names, destination):
        """Copies modules and all that they need below `destination`, uncompressed, and returns how many."""
        folder = destination / "lib/modules" / self.version
        folder.mkdir(parents=True)
        closure = self.order([normal(name) for name in names], set())
        lines = []
        for name in sorted(closure, key=self.paths.get):
            path = re.sub(r"\.ko\.\w+$", ".ko", self.paths[name])
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            uncompress(self.folder / self.paths[name], folder / path)
            # As depmod writes it: what is to be loaded first stands last.
            before = [re.sub(r"\.ko\.\w+$", ".ko", self.paths[n]) for n in self.order([name], set())[:-1]]
            lines.append(" ".join([f"{path}:", *reversed(before)]) + "\n")
        (folder / "modules.dep").write_text("".join(lines))
        builtin = sorted({self.builtin[normal(name)] for name in names if normal(name) in self.builtin})
        (folder / "modules.builtin").write_text("".join(f"{path}\n" for path in builtin))
        return len(closure)

    def copy_image(self, destination):
        """The kernel as a plain arm64 Image, which both U-Boot's `booti` and a Pi's firmware take."""
        data = self.image.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        offset, magic = ARM64_MAGIC
        if data[offset:offset + len(magic)] != magic:
            raise ImageError(f"{self.image}: expected an arm64 Image, found {data[:8]!r}")
        destination.write_bytes(data)

    def device_tree(self, name):
        """The path of a device tree, wherever below the package it lies."""
        roots = [self.root / f"usr/lib/linux-image-{self.version}", self.root / "boot", self.root / "lib/firmware"]
        found = [path for root in roots if root.is_dir() for path in sorted(root.rglob(name))]
        if not found:
            raise ImageError(f"{self.root}: no {name} in this kernel's package ({self.version}); "
                             "give a kernel of this board with --kernel")
        return found[0]


def uncompress(source, destination):
    if source.suffix == ".xz":
        destination.write_bytes(lzma.decompress(source.read_bytes()))
    elif source.suffix == ".gz":
        destination.write_bytes(gzip.decompress(source.read_bytes()))
    elif source.suffix == ".zst":
        run(["zstd", "-q", "-d", source, "-o", destination])
    else:
        shutil.copyfile(source, destination)
