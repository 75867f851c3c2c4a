"""The check `gpio` of tests/boot.py: lines of a real chip, which its driver takes away and gives back."""
import time

import guest
from cameras import expect, run, status

# The chip of QEMU's board, whose line 3 is its power key.
CHIP, DRIVER = "9030000.pl061", "/sys/bus/amba/drivers/pl061_gpio"
LINE = '[[gpio]]\nchip = "{chip}"\nline = {line}\nrule = "there"\n{more}\n'
# The demo's belt is never empty.
CONFIG = '[[rules]]\nname = "there"\nkind = "count"\nabove = 0\n' + "".join(
    LINE.format(chip=CHIP, line=line, more=more)
    for line, more in ((3, ""), (4, ""), (5, "active_low = true"), (6, "pulse_s = 0.5")))


def gpio(bench):
    """GPIO lines: held, inverted, for a moment; one that is taken; the chip away and back while the loop goes on."""
    with guest.Guest(guest.make(bench.binary, bench.folder / "gpio", ["gpio_keys"], bench.kernel)) as device:
        device.run("modprobe gpio_keys")
        device.run("mount -t debugfs debug /sys/kernel/debug")
        run(device, "demo:?fps=2", CONFIG)
        status(device, lambda seen: delivered(seen, 4) and delivered(seen, 5) and delivered(seen, 6, 2))
        # What the chip puts out, whatever that is called.
        expect(levels(device) == {4: "hi", 5: "lo", 6: "lo"}, f"lines: {levels(device)}")
        seen = status(device, lambda seen: sink(seen, 3)["problem"])
        expect("busy" in sink(seen, 3)["problem"], f"a line that is taken: {sink(seen, 3)}")

        device.run(f"echo {CHIP} >{DRIVER}/unbind")
        seen = status(device, lambda seen: sink(seen, 4)["problem"])
        frames = seen["loop"]["frames"]
        seen = status(device, lambda seen: seen["loop"]["frames"] > frames + 2)
        expect(levels(device) == {}, f"a chip that is gone: {levels(device)}")
        expect(CHIP in sink(seen, 4)["problem"], f"a chip that is gone: {sink(seen, 4)}")
        device.run(f"echo {CHIP} >{DRIVER}/bind")
        at = time.monotonic()
        # The power key's driver has not come back with it: its line is free.
        status(device, lambda seen: all(sink(seen, line)["problem"] is None for line in (3, 4, 5, 6)))
        expect(levels(device) == {3: "hi", 4: "hi", 5: "lo", 6: "lo"}, f"lines of the chip that is back: {levels(device)}")
        print(f"     the chip was found again after {time.monotonic() - at:.1f} s; without it: {sink(seen, 4)['problem']}")
        device.run("kill $(cat /tmp/pid); while kill -0 $(cat /tmp/pid) 2>/dev/null; do sleep 1; done")
        expect(levels(device) == {}, f"lines after the end: {levels(device)}")


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
