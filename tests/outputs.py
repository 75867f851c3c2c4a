"""The check `outputs` of tests/boot.py: GPIO lines and a screen, which their drivers take away and give back."""
import time

import guest
from cameras import expect, run, status

# The chip of QEMU's board, whose line 3 is its power key.
CHIP, DRIVER = "9030000.pl061", "/sys/bus/amba/drivers/pl061_gpio"
SCREENS = "/sys/bus/virtio/drivers/virtio_gpu"
LINE = '[[gpio]]\nchip = "{chip}"\nline = {line}\nrule = "there"\n{more}\n'
# The demo's belt is never empty.
CONFIG = '[[rules]]\nname = "there"\nkind = "count"\nabove = 0\n[display]\ntarget = "drm:/dev/dri/card0"\nfps = 2.0\n' + "".join(
    LINE.format(chip=CHIP, line=line, more=more)
    for line, more in ((3, ""), (4, ""), (5, "active_low = true"), (6, "pulse_s = 0.5")))


def outputs(bench):
    """GPIO lines: held, inverted, for a moment, one that is taken; a screen; chip, cable and card away and back."""
    folder = guest.make(bench.binary, bench.folder / "outputs", ["gpio_keys", "virtio_pci", "virtio_gpu"], bench.kernel)
    with guest.Guest(folder, ["-device", "virtio-gpu-pci"]) as device:
        device.run("mount -t debugfs debug /sys/kernel/debug; modprobe gpio_keys; modprobe virtio_pci; modprobe virtio_gpu")
        run(device, "demo:?fps=2", CONFIG)
        status(device, lambda seen: delivered(seen, 4) and delivered(seen, 5) and delivered(seen, 6, 2))
        held = device.run("ls /proc/$(cat /tmp/pid)/fd | wc -l")
        lines(device)
        screen(device)
        now = device.run("ls /proc/$(cat /tmp/pid)/fd | wc -l")
        # And the line that was taken at first.
        expect(int(now) <= int(held) + 1, f"{held} descriptors before, {now} after")
        device.run("kill $(cat /tmp/pid); while kill -0 $(cat /tmp/pid) 2>/dev/null; do sleep 1; done")
        expect(levels(device) == {}, f"lines after the end: {levels(device)}")


def lines(device):
    # What the chip puts out, whatever that is called.
    expect(levels(device) == {4: "hi", 5: "lo", 6: "lo"}, f"lines: {levels(device)}")
    seen = status(device, lambda seen: sink(seen, 3)["problem"])
    expect("busy" in sink(seen, 3)["problem"], f"a line that is taken: {sink(seen, 3)}")

    device.run(f"echo {CHIP} >{DRIVER}/unbind")
    seen = status(device, lambda seen: sink(seen, 4)["problem"])
    goes_on(device, seen)
    expect(levels(device) == {}, f"a chip that is gone: {levels(device)}")
    expect(CHIP in sink(seen, 4)["problem"], f"a chip that is gone: {sink(seen, 4)}")
    device.run(f"echo {CHIP} >{DRIVER}/bind")
    at = time.monotonic()
    # The power key's driver has not come back with it: its line is free.
    status(device, lambda seen: all(sink(seen, line)["problem"] is None for line in (3, 4, 5, 6)))
    expect(levels(device) == {3: "hi", 4: "hi", 5: "lo", 6: "lo"}, f"lines of the chip that is back: {levels(device)}")
    print(f"     the chip was found again after {time.monotonic() - at:.1f} s; without it: {sink(seen, 4)['problem']}")


def screen(device):
    cable = "/sys/class/drm/card0-Virtual-1/status"
    card = device.run("ls /sys/bus/virtio/devices")
    for away, back, words in (
            (f"echo off >{cable}", f"echo detect >{cable}", "Virtual-1: the screen was unplugged"),
            (f"echo {card} >{SCREENS}/unbind", f"echo {card} >{SCREENS}/bind", "/dev/dri/card0")):
        status(device, lambda seen: not display(seen))
        device.run(away)
        seen = status(device, display)
        expect(words in display(seen), f"a screen that is gone: {display(seen)}")
        goes_on(device, seen)
        device.run(back)
        at = time.monotonic()
        status(device, lambda seen: not display(seen))
        print(f"     the screen was found again after {time.monotonic() - at:.1f} s; without it: {display(seen)}")


def goes_on(device, seen):
    """Frames are inferred after that status."""
    frames = seen["loop"]["frames"]
    status(device, lambda seen: seen["loop"]["frames"] > frames + 2)


def display(seen):
    """Why there is no picture on the screen."""
    return next((reason for reason in seen["reasons"] if reason.startswith("display")), None)


def sink(seen, line):
    """What the status says of a line; before the outputs are open, that nothing has happened."""
    mine = (sink for sink in seen["sinks"] if sink["name"] == f"gpio:{CHIP}:{line}")
    return next(mine, {"delivered": 0, "problem": None})


def delivered(seen, line, times=1):
    return sink(seen, line)["delivered"] >= times


def levels(device):
    """The lines that somebody of ours holds, as the kernel sees them."""
    lines = [said.split() for said in device.run("cat /sys/kernel/debug/gpio").splitlines() if "|firstlight" in said]
    return {int(words[0].removeprefix("gpio-")) % 8: words[words.index("out") + 1] for words in lines}
