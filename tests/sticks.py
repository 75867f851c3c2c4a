"""The check `stick` of tests/boot.py: bundles of models on USB sticks, on a real kernel."""
import json
import subprocess

from cameras import expect
from guest import files

# What a stick needs, which QEMU's board does without.
MODULES = '["xhci_pci", "usb_storage", "sd_mod", "vfat", "nls_cp437", "nls_ascii"]'
# Another belt than the machine's own, by which it is told whose configuration runs; and the limits of emulation.
BELT = 'model = "parts/1"\n[source]\nuri = "demo:?seed=7"\n[health]\nframe_age_max_s = 30.0\nstart_grace_s = 120.0\n'


def bundle(bench, release):
    """A bundle of the image's model for QEMU's board, signed with the key of its updates."""
    config, path = bench.folder / "belt.toml", bench.folder / "models.flb"
    config.write_text(BELT)
    subprocess.run([bench.baker, "cache", "bundle", "parts/1", "--cache", bench.folder, "-o", path, "--board", "qemu-virt",
                    "--config", config, "--release", release, "--sign", bench.folder / "update.key"],
                   check=True, capture_output=True)
    return path.read_bytes()


def make(bench, name, place, content):
    """The image of a stick with one file."""
    image = bench.folder / f"{name}.stick"
    files.fat(image, 64, name, {place: content})
    return image


def plugged(image, name):
    return f"if=none,id={name},file={image},format=raw,readonly=on"


def stick(bench, config, token):
    """The whole of it; `config` is the machine's, `token` that of who may change it."""
    good = bundle(bench, "7")
    damaged = bytearray(bundle(bench, "8"))
    damaged[len(damaged) // 2] ^= 1
    first = make(bench, "first", "firstlight/models.flb", good)
    second = make(bench, "second", "damaged.flb", bytes(damaged))
    config = config.replace("[device]\n", f"[device]\nmodules = {MODULES}\n")
    usb = ["-device", "qemu-xhci", "-drive", plugged(first, "first"), "-device", "usb-storage,drive=first,id=usb-first"]
    with bench.power_on("stick", config, devices=usb) as device:
        at, _ = device.line(r"stick: /dev/sda has firstlight/models.flb; verifying it")
        at, _ = device.line(r"stick: firstlight/models.flb: bundle \w{12}, version 7, is verified and runs", at)
        at, _ = device.line(r"stick: /dev/sda may be pulled", at, 20)
        at, _ = device.line(r"bundle: there is another one; starting anew", limit=20)
        status = device.status(lambda seen: runs(seen, "demo:?seed=7"))
        expect(status["engine"]["name"] == "plan" and not device.bakes(at), f"a plan was made: {device.bakes(at)}")
        expect(roles(device, token) == ["current"], f"bundles: {roles(device, token)}")

        # Pulled out, and another one put in.
        device.command("device_del usb-first")
        device.command(f"drive_add 0 {plugged(second, 'second')}")
        device.command("device_add usb-storage,drive=second,id=usb-second")
        at, _ = device.line(r"stick: /dev/sd. has damaged.flb; verifying it", at)
        device.line(r"stick: damaged.flb: the bundle's .* has sha256 .*; it was damaged on its way", at, 60)
        expect(roles(device, token) == ["current"], f"bundles after a damaged one: {roles(device, token)}")

        at = len(device.lines)
        code, body = device.http("/device/bundle/rollback", method="POST", token=token)
        expect(code == 200, f"back: {code} {body}")
        device.status(lambda seen: runs(seen, "demo:"))
        device.command("device_del usb-second")
        device.command(f"drive_add 0 {plugged(first, 'again')}")
        device.command("device_add usb-storage,drive=again,id=usb-again")
        device.line(r"stick: firstlight/models.flb: the bundle came this way before, and is not taken from there again", at)
        device.status(lambda seen: runs(seen, "demo:"))
        expect("current" not in roles(device, token), f"bundles: {roles(device, token)}")


def runs(status, uri):
    return status["state"] == "running" and status["sources"][0]["uri"] == uri and status["loop"]["frames"] > 0


def roles(device, token):
    code, body = device.http("/device/bundle", token=token)
    expect(code == 200, f"/device/bundle: {code} {body}")
    return [bundle["role"] for bundle in json.loads(body)["bundles"]]
