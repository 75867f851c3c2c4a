#!/usr/bin/env python3
"""Boots images of the aarch64 binary on a real kernel in QEMU, and does to them what happens to devices.

  tests/boot.py BINARY [--full] [--only NAME]... [--kernel DEB] [--baker FILE] [--keep DIR]

A line a check; exits 1 when one fails. The short run is a seeded sample; --full does 50 power cuts and the ten quiet
minutes. FILE is a firstlight of this machine, which bakes the images' plans; default: target/debug/firstlight, which
`cargo test` leaves. Needs what scripts/image needs, and the Debian packages qemu-system-arm, qemu-user-static,
u-boot-qemu, minisign, e2fsprogs, fdisk.
"""
import argparse
import hashlib
import json
import os
import random
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import guest
import pcap
import screendump
from cameras import cameras
from outputs import outputs
import sticks

ROOT = Path(__file__).resolve().parent.parent
UBOOT = os.environ.get("FIRSTLIGHT_UBOOT", "/usr/lib/u-boot/qemu_arm64/u-boot.bin")
TOKEN = "a token of the tests"
# Where it matters the fingerprint is compared.
ANY_CERTIFICATE = ssl.create_default_context()
ANY_CERTIFICATE.check_hostname = False
ANY_CERTIFICATE.verify_mode = ssl.CERT_NONE
# May ask, and may do nothing to the device.
READER = "another token of the tests"
# Debian keeps what is about disks out of a user's path.
SBIN = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
# Emulated on a busy machine a boot takes a quarter of a minute, and a minute at worst.
BOOT_S = 240
LISTEN = 'listen = "0.0.0.0:9001"\n'
# Under emulation a frame takes about a second; the limits are wider than a device's by that much.
LIMITS = f"""
[http]
tokens_sha256 = ["{hashlib.sha256(READER.encode()).hexdigest()}"]
[health]
frame_age_max_s = 30.0
start_grace_s = 120.0
[serial]
interval_s = 2.0
[output]
spool = "/data/spool"
spool_interval_s = 1.0
spool_per_s = 10.0
[device]
token_sha256 = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"
[device.watchdog]
frame_age_max_s = 30.0
[device.trial]
inferences = 3
healthy_s = 3.0
deadline_s = 120.0
"""
# A model of the image, which has a plan beside it; without this the demo inside the binary runs, which has none.
MODEL = 'cache = "/models"\nmodel = "parts/1"\n'
CONFIG = MODEL + LISTEN + LIMITS


class Failed(Exception):
    pass


def expect(condition, words):
    if not condition:
        raise Failed(words)


class Machine:
    """One run of QEMU over a disk image."""

    def __init__(self, image, *, snapshot=False, devices=()):
        self.scheme = "http"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.monitor = Path(tempfile.mkdtemp(prefix="firstlight-qemu-")) / "monitor"
        drive = f"if=none,id=disk,file={image},format=raw,snapshot={'on' if snapshot else 'off'}"
        self.process = subprocess.Popen(
            ["qemu-system-aarch64", "-M", "virt,acpi=off", "-cpu", "cortex-a72", "-smp", "2", "-m", "1024", "-bios", UBOOT,
             "-nographic", "-serial", "stdio", "-monitor", f"unix:{self.monitor},server,nowait",
             "-drive", drive, "-device", "virtio-blk-pci,drive=disk",
             "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self.port}-:9001",
             "-device", "virtio-net-pci,netdev=net,romfile=", "-device", "i6300esb", "-action", "watchdog=reset", *devices],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.lines = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line.decode("utf-8", "replace")).strip())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        """The power is gone."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.monitor.parent, ignore_errors=True)

    def line(self, pattern, since=0, limit=BOOT_S):
        """Waits for a line of the serial console; its number and the match."""
        deadline, at = time.monotonic() + limit, since
        while time.monotonic() < deadline:
            while at < len(self.lines):
                if match := re.search(pattern, self.lines[at]):
                    return at, match
                at += 1
            expect(self.process.poll() is None, f"QEMU has ended: {self.tail()}")
            time.sleep(0.05)
        raise Failed(f"no line with {pattern!r} in {limit} s; the last were: {self.tail()}")

    def tail(self):
        return " | ".join(line[:200] for line in self.lines[-12:])

    def type(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def command(self, text):
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self.monitor))
            monitor.sendall(text.encode() + b"\n")
            time.sleep(0.3)

    def http(self, path, *, method="GET", body=None, token=READER, limit=60):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"{self.scheme}://127.0.0.1:{self.port}{path}", body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=limit, context=ANY_CERTIFICATE) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def status(self, fits, limit=BOOT_S, since=0):
        """Waits until the status document fits."""
        deadline, seen = time.monotonic() + limit, None
        while time.monotonic() < deadline:
            expect(self.process.poll() is None, f"QEMU has ended: {self.tail()}")
            try:
                code, body = self.http("/status", limit=10)
                seen = json.loads(body)
                if code == 200 and fits(seen):
                    return seen
            except (OSError, ValueError):
                pass
            time.sleep(0.3)
        raise Failed(f"the status stays {json.dumps(seen)}; serial: {self.tail()}")

    def bakes(self, since=0):
        """What the serial console says of plans that are made on the device."""
        return [line for line in self.lines[since:] if "making one" in line or "plan made" in line]

    def running(self, frames=1):
        return self.status(lambda s: s["state"] == "running" and s["loop"]["frames"] >= frames)


class Bench:
    """Images, made once each."""

    def __init__(self, binary, baker, kernel, folder, full):
        self.binary, self.baker, self.kernel, self.folder, self.full = binary, baker, kernel, Path(folder), full
        self.made = {}
        self.model = self.folder / "parts/1"
        self.model.mkdir(parents=True, exist_ok=True)
        for name in ("model_type.json", "environment.json", "class_names.txt"):
            shutil.copyfile(ROOT / "src/demo" / name, self.model / name)
        shutil.copyfile(ROOT / "src/demo/parts.onnx", self.model / "weights.onnx")
        # Without a password: what is tested is the device.
        subprocess.run(["minisign", "-G", "-W", "-f", "-p", self.folder / "update.pub", "-s", self.folder / "update.key"],
                       check=True, capture_output=True)

    def make(self, name, config, version, *options):
        if name not in self.made:
            path = self.folder / f"{name}.toml"
            path.write_text(config)
            command = [ROOT / "scripts/image", "qemu-virt", "--binary", self.binary, "--config", path,
                       "--version", version, "--update-key", self.folder / "update.pub", *options]
            if config.startswith(MODEL):
                command += ["--model", self.model, "--baker", self.baker]
            if self.kernel:
                command += ["--kernel", self.kernel]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            expect(done.returncode == 0, f"scripts/image: {done.stderr}")
            self.made[name] = True

    def image(self, name, config):
        """A fresh copy of an image."""
        path = self.folder / f"{name}.img"
        self.make(name, config, "1.0", "-o", path)
        copy = self.folder / f"{name}-{random.getrandbits(32):08x}.img"
        subprocess.run(["cp", "--sparse=always", path, copy], check=True)
        return copy

    def power_on(self, name, config, **how):
        return Machine(self.image(name, config), **how)

    def bundle(self, name, config, version):
        path = self.folder / f"{name}.flb"
        self.make(name, config, version, "--only-bundle", "--bundle", path, "--sign", self.folder / "update.key")
        return path.read_bytes()


def print_first(status, how):
    first = status["boot"]["kernel_to_first_inference_ms"]
    print(f"     first inference {first} ms after the kernel's start {how}, under emulation")


def boots(bench):
    """Power on, and it sees: status lines, detections, HTTP, a read-only root, the prompt; and it calls nobody."""
    dump = bench.folder / "boots.pcap"
    with Machine(bench.image("plain", CONFIG), devices=["-object", f"filter-dump,id=dump,netdev=net,file={dump}"]) as device:
        status = device.running()
        print_first(status, "with the plan of the image")
        device.line(r"^FIRSTLIGHT \{.*\"state\":\"running\"")
        device.line(r'"predictions":\[\{"x":')
        device.line(r"the root is read-only: .*Read-only file system")
        expect(status["engine"]["name"] == "plan", f"engine: {status['engine']}")
        device.line(r"plan \w+\.neon\.fp32\.1x3x320x320\.plan was made on another machine", limit=20)
        expect(not device.bakes(), f"a plan is in the image, and the device made one: {device.bakes()}")
        expect(status["boot"]["slot"] == "A" and status["boot"]["watchdog"] == "armed", f"boot: {status['boot']}")
        code, body = device.http("/healthz", token=None)
        expect(code == 200, f"/healthz: {code} {body}")
        for token, expected in ((None, 401), ("wrong", 401), (TOKEN, 200)):
            code, body = device.http("/status", token=token)
            expect(code == expected, f"/status with the token {token!r}: {code} {body}")
        code, picture = device.http("/snapshot.jpg")
        expect(code == 200 and picture[:2] == b"\xff\xd8", f"/snapshot.jpg: {code}")
        code, metrics = device.http("/metrics")
        expect(b"\nfirstlight_watchdog_armed 1\n" in metrics and b'firstlight_slot{slot="A"} 1' in metrics,
               f"/metrics: {code} {metrics!r}")
        code, log = device.http("/logs")
        expect(code == 200 and b"watchdog armed" in log, f"/logs: {code} {log!r}")
        at = len(device.lines)
        device.type("\r")
        device.line(r"status, log, selftest, slot, reboot", at, 20)
        device.type("status\r")
        device.line(r"^state +running", at, 20)
        device.type("slot\r")
        device.line(r"slot A runs, A is committed", at, 20)
        for token in (None, READER):
            code, _ = device.http("/device/reboot", method="POST", token=token)
            expect(code == 401, f"a restart with the token {token!r}: {code}")
        code, body = device.http("/device/reboot", method="POST", token=TOKEN)
        expect(code == 202, f"a restart with the token: {code} {body}")
        device.line(r"Starting kernel", at)
        status = device.status(lambda s: s["boot"]["resets"] and s["loop"]["frames"] > 0)
        expect(status["boot"]["resets"][0] == "asked over HTTP", f"resets: {status['boot']['resets']}")
        at = len(device.lines)
        # Pressed again until it is noticed: a button's driver comes some seconds after the first frame.
        for _ in range(10):
            device.command("system_powerdown")
            if any("the power button" in line for line in device.lines[at:]):
                break
            time.sleep(4)
        device.line(r"the power button", at, 10)
        device.line(r"Starting kernel", at)
    count = sum(1 for _ in pcap.packets(dump))
    called = pcap.outbound(dump, "10.0.2.15")
    expect(count > 50, f"the dump of the network has {count} packets only")
    expect(not called, f"of its own accord the device called {called}")


def camera(bench):
    """The kernel's virtual camera as a V4L2 source."""
    source = '[source]\nuri = "v4l2:/dev/video0?width=640&height=360&format=yuyv"\n'
    config = MODEL + LISTEN + source + LIMITS.replace("[device]\n", '[device]\nmodules = ["vivid"]\n')
    with Machine(bench.image("camera", config)) as device:
        status = device.running(3)
        expect(status["sources"][0]["uri"].startswith("v4l2:/dev/video0"), f"sources: {status['sources']}")
        code, picture = device.http("/snapshot.jpg")
        expect(code == 200 and len(picture) > 10_000, f"/snapshot.jpg: {code}, {len(picture)} bytes")
        # The test picture has a running clock in it.
        device.running(status["loop"]["frames"] + 3)
        code, later = device.http("/snapshot.jpg")
        expect(code == 200 and later != picture, "the camera's picture stands still")


def screen(bench):
    """A screen behind the kernel's DRM: the state in its colour, the live picture, and the console back at the end."""
    config = CONFIG.replace("[device]\n", '[device]\nmodules = ["virtio-gpu"]\n')
    config += '[display]\ntarget = "drm:/dev/dri/card0?mode=1024x768"\nfps = 2.0\n'
    green, ground, bar = (74, 208, 116), (10, 13, 18), (21, 26, 34)
    with Machine(bench.image("screen", config), devices=["-device", "virtio-gpu-pci"]) as device:
        device.running(2)
        # The word in its pill, the bar behind it, the panel beside the picture.
        fits = lambda dump: (dump.share(green, 0.01, 0.02, 0.15, 0.09) > 0.4 and dump.share(bar, 0.3, 0.02, 0.6, 0.09) > 0.8)
        dump = screendump.wait(device.command, bench.folder, fits)
        expect(dump and (dump.width, dump.height) == (1024, 768), f"the screen has another mode: {dump and dump.width}")
        expect(fits(dump), "the screen does not show a running loop")
        # The conveyor is grey, neither the ground of the screen nor black.
        dark = dump.share(ground, 0.1, 0.3, 0.5, 0.8) + dump.share((0, 0, 0), 0.1, 0.3, 0.5, 0.8)
        expect(dark < 0.2, f"{dark:.0%} of the picture is dark")
        expect(not [r for r in device.running()["reasons"] if r.startswith("display")], "the display is in trouble")


def secret(bench):
    """A certificate of the device's own: its fingerprint stands on the console, and is the same after a restart."""
    fingerprint = r"certificate's SHA-256 fingerprint is ([0-9A-F:]{95})$"
    with Machine(bench.image("secret", CONFIG + "[http.tls]\nself_signed = true\n")) as device:
        device.scheme = "https"
        device.running()
        device.line(r"a certificate was made; kept as /data/state/tls/", limit=20)
        at, said = device.line(fingerprint, limit=20)
        served = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", device.port)))
        expect(hashlib.sha256(served).hexdigest().upper() == said[1].replace(":", ""), f"another than {said[1]} is served")
        code, body = device.http("/device/reboot", method="POST", token=TOKEN)
        expect(code == 202, f"a restart with the token: {code} {body}")
        at, again = device.line(fingerprint, at + 1)
        expect(again[1] == said[1], f"after a restart the fingerprint is {again[1]}, it was {said[1]}")
        device.running()


def watchdog(bench):
    """A loop that stalls is reset by the hardware, and the next boot says so; it takes the plan that the first made."""
    limits = LIMITS.replace("frame_age_max_s = 30.0\n[device.trial]", "frame_age_max_s = 8.0\n[device.trial]")
    with Machine(bench.image("stall", LISTEN + '[source]\nuri = "demo:?stall_after=60"\n' + limits)) as device:
        print_first(device.running(), "with no plan in the image")
        device.line(r"plan made in .*; kept as /data/state/plans/", limit=20)
        at, _ = device.line(r"watchdog: not fed")
        # The feeds end when the line above is written; 15 s of the hardware, and the slack of an emulated clock.
        at, _ = device.line(r"U-Boot 20", at, 25)
        status = device.status(lambda s: s["boot"]["resets"] and s["loop"]["frames"] > 0)
        expect(status["boot"]["resets"][0].startswith("watchdog"), f"resets: {status['boot']['resets']}")
        expect(status["engine"]["name"] == "plan", f"engine: {status['engine']}")
        print_first(status, "with the plan that the boot before made")
        expect(not device.bakes(at), f"a plan was kept, and the device made one: {device.bakes(at)}")


def quiet(bench):
    """Without a fault the watchdog stays quiet: ten minutes, or one in the short run."""
    with Machine(bench.image("plain", CONFIG)) as device:
        device.running()
        at, until = len(device.lines), time.monotonic() + (600 if bench.full else 45)
        while time.monotonic() < until:
            time.sleep(5)
            expect(not any("U-Boot 20" in line for line in device.lines[at:]), f"it was reset: {device.tail()}")
        device.running(10)


def slots(bench):
    """A broken B boots once and the machine comes back in A by itself; a good B is kept."""
    broken = CONFIG.replace("parts/1", "no-such-model/1")
    image = bench.image("plain", CONFIG)
    with Machine(image) as device:
        device.running()
        bundle = bench.bundle("broken", broken, "2.0-broken")
        damaged = bytearray(bundle)
        damaged[len(damaged) // 2] ^= 1
        code, body = device.http("/device/update", method="POST", body=bytes(damaged), token=TOKEN, limit=300)
        expect(code == 422, f"a damaged update: {code} {body}")
        code, body = device.http("/device/slot/try", method="POST", token=TOKEN)
        device.line(r"slot B is writing: only a slot that is `ready:`", limit=30)
        code, body = device.http("/device/update", method="POST", body=bundle, token=TOKEN, limit=300)
        expect(code == 200, f"an update: {code} {body}")
        at = len(device.lines)
        device.http("/device/slot/try", method="POST", token=TOKEN)
        at, _ = device.line(r"booting slot B", at)
        at, _ = device.line(r"booting slot A", at)
        status = device.status(lambda s: s["boot"]["trial"] and s["loop"]["frames"] > 0)
        expect(status["boot"]["slot"] == "A", f"boot: {status['boot']}")
        expect("no-such-model" in status["boot"]["trial"], f"the reason: {status['boot']['trial']}")
        print(f"     trial: {status['boot']['trial']}")
        good = bench.bundle("good", CONFIG, "2.1")
        code, body = device.http("/device/update", method="POST", body=good, token=TOKEN, limit=300)
        expect(code == 200, f"an update: {code} {body}")
        at = len(device.lines)
        device.http("/device/slot/try", method="POST", token=TOKEN)
        at, _ = device.line(r"booting slot B", at)
        status = device.status(lambda s: s["boot"]["slot"] == "B" and "committed" in (s["boot"]["trial"] or ""))
        expect("2.1" in status["boot"]["trial"], f"boot: {status['boot']}")
        device.http("/device/reboot", method="POST", token=TOKEN)
        device.line(r"booting slot B", at + 1)


def stick(bench):
    """Models on a USB stick: verified, tried, run; a damaged one refused; gone back from, and not taken again by itself."""
    sticks.stick(bench, CONFIG, TOKEN)


def power_cuts(bench):
    """The power goes while the spool is written and an update streams: nothing committed is lost."""
    seed, count = 4, 50 if bench.full else 3
    chance, image, committed, halfway = random.Random(seed), bench.image("plain", CONFIG), 0, 0
    bundle = bench.bundle("good", CONFIG, "2.1")
    for cut in range(count):
        with Machine(image) as device:
            # Some seconds after the first frame: the data partition is mounted late.
            status = device.status(lambda s: s["state"] == "running" and s["spool"] and s["spool"]["committed"] >= 2)
            expect(status["boot"]["slot"] == "A", f"cut {cut}: boot {status['boot']}")
            expect(status["spool"]["last"] >= committed + 2,
                   f"cut {cut}: the spool ends at {status['spool']['last']}, {committed} was committed")
            code, slot = device.http("/device/slot", token=TOKEN)
            slot = json.loads(slot)
            expect(code == 200 and slot["committed"] == "A" and slot["a"].startswith("ready:"), f"cut {cut}: {slot}")
            halfway += slot["b"] == "writing"
            update = threading.Thread(target=quietly, args=(
                lambda: device.http("/device/update", method="POST", body=bundle, token=TOKEN, limit=300),))
            update.start()
            until = time.monotonic() + chance.uniform(0.2, 10.0)
            while time.monotonic() < until:
                try:
                    committed = max(committed, json.loads(device.http("/status", limit=5)[1])["spool"]["last"])
                except (OSError, ValueError):
                    pass
                time.sleep(0.05)
            device.kill()
            update.join(10)
        first, last = spooled(bench, image)
        expect(last >= committed, f"cut {cut}: the card ends at record {last}, {committed} was committed")
        print(f"     cut {cut + 1} of {count}: records {first} to {last} lie on the card, {committed} were committed")
        sys.stdout.flush()
    with Machine(image) as device:
        last = device.status(lambda s: s["state"] == "running" and s["spool"])["spool"]["last"]
        expect(last >= committed, f"the spool ends at {last}, {committed} was committed")
        halfway += json.loads(device.http("/device/slot", token=TOKEN)[1])["b"] == "writing"
        # And the slot that so many updates began to write still takes one whole.
        code, body = device.http("/device/update", method="POST", body=bundle, token=TOKEN, limit=300)
        expect(code == 200, f"an update after the cuts: {code} {body}")
    print(f"     {halfway} of {count} cuts left an update halfway")
    expect(halfway > 0, "no cut fell into an update")


def spooled(bench, image):
    """The first and the last record in the spool on the card, which must be whole in between; read as a person would
    read it who takes the card out."""
    table = subprocess.run(["sfdisk", "-J", image], check=True, capture_output=True, env=SBIN).stdout
    data = json.loads(table)["partitiontable"]["partitions"][-1]
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        part = Path(folder) / "data.ext4"
        subprocess.run(["dd", f"if={image}", f"of={part}", "bs=512", f"skip={data['start']}", f"count={data['size']}",
                        "status=none"], check=True)
        # Replays the journal, as a mount would; 4 and above is damage that a journal does not mend.
        checked = subprocess.run(["e2fsck", "-p", part], capture_output=True, text=True, check=False, env=SBIN)
        expect(checked.returncode < 4, f"e2fsck: {checked.stdout}")
        subprocess.run(["debugfs", "-R", f"rdump /spool {folder}", part], check=True, capture_output=True, env=SBIN)
        spool = Path(folder) / "spool"
        command = ["qemu-aarch64-static", bench.binary, "spool"]
        listed = subprocess.run([*command, "ls", spool], capture_output=True, text=True, check=False)
        expect(listed.returncode == 0, f"the spool has gaps or damage: {listed.stdout}{listed.stderr}")
        records = subprocess.run([*command, "cat", spool], check=True, capture_output=True, text=True).stdout.splitlines()
        rows = [line.split() for line in listed.stdout.splitlines()[1:]]
        if not rows:
            return 0, 0
        first, last = int(rows[0][0]), int(rows[-1][1])
        expect([json.loads(record)["monotonic_s"] > 0 for record in records] == [True] * (last + 1 - first),
               f"{len(records)} records from {first} to {last}")
        return first, last


def quietly(act):
    try:
        act()
    except OSError:
        pass


CHECKS = {check.__name__: check for check in (
    boots, camera, cameras, outputs, screen, secret, watchdog, slots, stick, power_cuts, quiet)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", action="append", choices=CHECKS)
    parser.add_argument("--kernel")
    parser.add_argument("--baker", type=Path, default=ROOT / "target/debug/firstlight")
    parser.add_argument("--keep", help="folder for the images, which are kept there")
    args = parser.parse_args()
    if not args.baker.is_file():
        parser.error(f"{args.baker}: no such program, which bakes the plans; `cargo build` makes one, or --baker FILE")
    folder = args.keep or tempfile.mkdtemp(prefix="firstlight-boot-", dir=ROOT / "target")
    Path(folder).mkdir(exist_ok=True)
    failed = []
    try:
        bench = Bench(args.binary.resolve(), args.baker.resolve(), args.kernel, folder, args.full)
        for name in args.only or CHECKS:
            started = time.monotonic()
            try:
                CHECKS[name](bench)
                print(f"ok   {name} ({time.monotonic() - started:.0f} s): {CHECKS[name].__doc__}")
            except (Failed, guest.Dead, guest.tools.ImageError, OSError, subprocess.CalledProcessError) as error:
                failed.append(name)
                print(f"FAIL {name}: {error}")
            sys.stdout.flush()
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(args.only or CHECKS) - len(failed)} passed, {len(failed)} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
