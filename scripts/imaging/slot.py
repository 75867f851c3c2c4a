"""What a slot holds: the boot file system and the root. A and B have the same bytes; who boots one says which it is."""

import shutil
import tomllib
from pathlib import Path

from . import files, models, plans
from .tools import ImageError, run, say

# Longest line the kernel of arm64 takes is 2048; a Pi's firmware adds to it.
ARGUMENTS_MAX = 1024


def config_text(options, board, ids, cache):
    """The configuration: the user's own as it is, else one for the first model; with the tokens that were given."""
    tokens = "".join(f'"{token}", ' for token in options.token_sha256).removesuffix(", ")
    http = f"\n[http]\ntokens_sha256 = [{tokens}]\n" if tokens else ""
    if not options.config:
        model = f'model = "{ids[0]}"\n' if ids else ""
        text = f'cache = "{cache}"\n{model}listen = "0.0.0.0:9001"\n\n[device]\nhostname = "{board["name"]}"\n{http}'
        say_access(tomllib.loads(text))
        return text
    text = Path(options.config).read_text()
    parsed = parse_config(options.config, text)
    if ids and "cache" not in parsed:
        say(f'warning: {options.config} has no `cache`; the models lie in "{cache}" of the image')
    if http and "http" in parsed:
        raise ImageError(f"{options.config} has an [http] of its own: put the digests of --token-sha256 into its "
                         "tokens_sha256")
    text = text + "\n" * (not text.endswith("\n")) * bool(http) + http
    say_access(parse_config(options.config, text))
    return text


def say_access(config):
    """Says what the device will let nobody do, as the binary does at boot. What is wrong with a value it says too."""
    http, device = (table if isinstance(table := config.get(name, {}), dict) else {} for name in ("http", "device"))
    address = str(config.get("listen", "127.0.0.1:9001")).rsplit(":", 1)[0]
    beyond = address not in ("off", "127.0.0.1", "[::1]")
    tokens = http.get("tokens_sha256") or device.get("token_sha256")
    if beyond and http.get("access", "auto") == "auto" and not tokens:
        say("the device listens on the network and has no token: over HTTP it answers for its health and nothing else; "
            "--token-sha256 HEX lets in whoever brings that token, http.access = \"open\" everybody")


def parse_config(path, text):
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ImageError(f"{path}: {error}") from error


def config_modules(options):
    """Kernel modules that the configuration asks for; the rest of it is the binary's to judge."""
    if not options.config:
        return []
    device = parse_config(options.config, Path(options.config).read_text()).get("device", {})
    names = device.get("modules", []) if isinstance(device, dict) else []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ImageError(f"{options.config}: device.modules: expected a list of names")
    # A name may be followed by parameters.
    return [name.split()[0] for name in names if name.strip()]


def modules(options, board, kernel):
    """Early and all modules of this kernel. One that it lacks is an error where the device could not do without: an
    early one of the kernel that the board file was written for, and one that the configuration asks for."""
    early, late, asked = board["modules"]["early"], board["modules"]["late"], config_modules(options)
    needed = asked if options.kernel else [*early, *asked]
    for name in kernel.missing(needed):
        raise ImageError(f"kernel {kernel.version} has no module {name}{kernel.suggestion(name)}")
    missing = set(kernel.missing([*early, *late]))
    return [name for name in early if name not in missing], [n for n in [*early, *late, *asked] if n not in missing]


def root(options, board, kernel, work):
    """Makes the root of a slot; returns its file and the ids of its models."""
    tree = work / "root"
    for folder in ("proc", "sys", "dev", "run", "tmp", "data", "sbin", "etc/firstlight"):
        (tree / folder).mkdir(parents=True)
    shutil.copyfile(options.binary, tree / "firstlight")
    (tree / "sbin/init").symlink_to("../firstlight")
    (tree / "etc/resolv.conf").symlink_to("/run/resolv.conf")
    ids = models.install(options.model, tree / "models")
    plans.bake(options, board, tree / "models")
    settings(options, board, tree, config_text(options, board, ids, "/models"))
    plans.verify(options, board, tree, tree / "models")
    kernel.install(modules(options, board, kernel)[1], tree)
    shutil.copyfile(work / "data.ext4", tree / "data.ext4")
    files.set_modes(tree, {"firstlight"})
    output = work / "root.squashfs"
    files.squashfs(tree, output, kernel)
    limit = board["image"]["root_mib"]
    if output.stat().st_size > limit * files.MIB:
        raise ImageError(f"the root is {output.stat().st_size / files.MIB:.1f} MiB, the board file gives it {limit} "
                         "MiB; raise [image] root_mib, or take fewer models")
    return output, ids


def settings(options, board, tree, config):
    """/etc/firstlight of a root or an overlay."""
    folder = tree / "etc/firstlight"
    (folder / "config.toml").write_text(config)
    (folder / "release").write_text(f'board = "{board["name"]}"\nversion = "{options.version}"\n')
    if options.update_key:
        shutil.copyfile(options.update_key, folder / "update.pub")
    if options.board_file:
        shutil.copyfile(options.board_file, folder / "board.toml")


def initramfs(options, board, kernel, work):
    tree = work / "early"
    for folder in ("dev", "proc", "sys", "run", "tmp", "root"):
        (tree / folder).mkdir(parents=True)
    shutil.copyfile(options.binary, tree / "init")
    kernel.install(modules(options, board, kernel)[0], tree)
    if options.board_file:
        # A board of the user's own: its early modules are no others' to know.
        (tree / "etc/firstlight").mkdir(parents=True)
        shutil.copyfile(options.board_file, tree / "etc/firstlight/board.toml")
    files.set_modes(tree, {"init"})
    output = work / "initramfs"
    files.initramfs(tree, output, kernel)
    return output


def boot(options, board, kernel, work):
    """Makes the boot file system of a slot."""
    arguments = board["kernel"]["args"]
    if len(arguments) > ARGUMENTS_MAX:
        raise ImageError(f"[kernel] args has {len(arguments)} characters, expected at most {ARGUMENTS_MAX}")
    image = work / "Image"
    kernel.copy_image(image)
    content = {"initramfs": initramfs(options, board, kernel, work)}
    tree = board["kernel"]["device_tree"]
    if board["slots"]["mechanism"] == "u-boot":
        if tree:
            raise ImageError("[kernel] device_tree: U-Boot hands on its own; expected an empty name")
        content |= {"Image": image, "cmdline.env": f"args={arguments}\n".encode()}
    else:
        content |= {"kernel8.img": image, "cmdline.txt": arguments.encode() + b"\n"}
        content |= {name: firmware(options, name) for name in board["firmware"]["files"]}
        content |= {f"overlays/{name}": kernel.device_tree(name) for name in board["firmware"]["overlays"]}
        content |= {tree: kernel.device_tree(tree), "config.txt": board["firmware"]["config"].lstrip().encode()}
    output = work / "boot.vfat"
    files.fat(output, board["image"]["boot_mib"], "BOOT", content)
    sizes = {"kernel": image.stat().st_size, "initramfs": content["initramfs"].stat().st_size}
    return output, sizes


def firmware(options, name):
    """A file of the Raspberry Pi's firmware, which is its maker's and not ours to hand on."""
    if not options.firmware_tree:
        raise ImageError(f"this board needs {name} of the Raspberry Pi's firmware: --firmware DIR, a folder with it, "
                         "or --firmware raspi-firmware, Debian's package (in non-free-firmware, by its own licence)")
    found = sorted(options.firmware_tree.rglob(name))
    if not found:
        raise ImageError(f"{options.firmware_tree}: no {name} in it")
    return found[0]


def select(options, board, work):
    """Makes the file system that decides for a slot."""
    if board["slots"]["mechanism"] == "u-boot":
        script = Path(__file__).resolve().parents[2] / "boards/u-boot.cmd"
        compiled = work / "boot.scr"
        run(["mkimage", "-A", "arm64", "-O", "linux", "-T", "script", "-C", "none", "-n", "firstlight", "-d", script,
             compiled])
        content = {"boot.scr": compiled}
    else:
        choice = b"[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n"
        # One sector, so that the device can replace it by one write. A partition without config.txt is not looked at
        # by every bootloader.
        content = {"autoboot.txt": choice.ljust(512, b"\n"), "config.txt": b"# See autoboot.txt.\n"}
        content |= {name: firmware(options, name) for name in board["firmware"]["select"]}
    output = work / "select.vfat"
    files.fat(output, 16, "SELECT", content)
    return output
