"""The check `cameras` of tests/boot.py: V4L2 on a real kernel, with the driver `vivid` and a shell beside it."""
import json
import time

import guest


def expect(condition, words):
    if not condition:
        raise guest.Dead(words)


def cameras(bench):
    """The virtual camera with a shell beside it: every format it has, controls, and its driver taken away and back."""
    folder = guest.make(bench.binary, bench.folder / "guest", ["vivid"], bench.kernel)
    with guest.Guest(folder) as device:
        # Two cameras of one node each, whose drivers speak of pictures in one plane and in several.
        device.run("modprobe vivid n_devs=2 node_types=0x1,0x1 multiplanar=1,2")
        # Neither has MJPEG, which vivid does not make.
        formats = [(node, name) for name in ("yuyv", "nv12", "grey", "rgb") for node in (0, 1)]
        for node, name in formats if bench.full else formats[::3]:
            said = once(device, f"/dev/video{node}?width=640&height=360&format={name}")
            expect(f"640x360 {name} at" in said and '"frame_id":' in said, f"/dev/video{node}: {said}")
        for options, words in (
                ("format=mjpeg", "expected a camera that gives mjpeg, this one offers: YUYV"),
                ("brightness=300", "option brightness=300: control brightness: expected 0 to 255"),
                ("focus=3", "has no control focus"),
                ("ctrl.test_patern=1", "did you mean ctrl.test_pattern?"),
                ("ctrl.test_pattern=900", "0 (75% Colorbar)")):
            said = once(device, f"/dev/video0?{options}", " || true")
            expect(words in said, f"{options}: {said}")
        said = once(device, "/dev/video0?width=641&fps=7&height=360&format=yuyv&ctrl.test_pattern=100%_green")
        expect("asked for width 641" in said and "it offers yuyv in 320x180, 640x360" in said, said)
        expect("test_pattern" in said, said)
        print("     " + next(line for line in said.splitlines() if "asked for" in line))
        # Numbers that wrap and times that jump are no reason to stop.
        said = once(device, "/dev/video1?ctrl.wrap_sequence_number=1&ctrl.wrap_timestamp=1&format=yuyv", frames=8)
        expect(said.count('"frame_id":') == 8, said)
        silent(device)
        unplugged(device, 20 if bench.full else 3)


def once(device, camera, after="", frames=1):
    """What a run says that ends with its first frames."""
    return device.run(f"/firstlight run --engine tract --listen off --frames {frames} --source 'v4l2:{camera}'{after}")


def run(device, source, config=""):
    """Starts it with the status port and limits as wide as an emulated machine is slow."""
    config += "[health]\nframe_age_max_s = 60.0\nstart_grace_s = 240.0\n"
    device.run(f"cat >/tmp/device.toml <<'END'\n{config}END")
    device.run(f"/firstlight run -c /tmp/device.toml --engine tract --json none --source '{source}' >/tmp/said 2>&1 & "
               "echo $! >/tmp/pid")


def status(device, fits, limit=180):
    """Waits until the status document fits."""
    deadline, seen = time.monotonic() + limit, None
    while time.monotonic() < deadline:
        try:
            seen = json.loads(device.run("wget -qO- http://127.0.0.1:9001/status"))
            if fits(seen):
                return seen
        except (guest.Dead, ValueError):
            pass
        time.sleep(0.2)
    raise guest.Dead(f"the status stays {json.dumps(seen)}; said: {device.run('cat /tmp/said')}")


def silent(device):
    """A camera that is there and gives nothing is lost, and says so."""
    run(device, "v4l2:/dev/video1?format=yuyv&ctrl.percentage_of_dropped_buffers=100")
    seen = status(device, lambda seen: seen["state"] == "degraded")
    expect(any("no frame for" in reason for reason in seen["reasons"]), f"reasons: {seen['reasons']}")
    device.run("kill $(cat /tmp/pid); while kill -0 $(cat /tmp/pid) 2>/dev/null; do sleep 1; done")


def unplugged(device, times):
    """The driver is taken from a camera that streams and given back: degraded with the reason, running again, and
    nothing is left behind."""
    run(device, "v4l2:/dev/video0?width=640&height=360&format=yuyv&brightness=200&gain=90")

    def controls():
        camera = json.loads(device.run("/firstlight probe --camera /dev/video0 --json"))
        return {control["name"]: control["value"] for control in camera["controls"]}

    def descriptors():
        return int(device.run("ls /proc/$(cat /tmp/pid)/fd | wc -l"))

    running = lambda seen: seen["state"] == "running"  # noqa: E731
    status(device, lambda seen: running(seen) and seen["loop"]["frames"] > 0)
    before, longest = descriptors(), 0
    for _ in range(times):
        set_now = controls()
        expect(set_now["brightness"] == 200 and set_now["gain"] == 90, f"controls: {set_now}")
        device.run("echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind")
        seen = status(device, lambda seen: seen["state"] == "degraded")
        expect(any("camera /dev/video0" in reason for reason in seen["reasons"]), f"reasons: {seen['reasons']}")
        # Held open by nobody, the node is free for the camera that comes back.
        expect("video0" not in device.run("ls /dev"), "the node of the camera is still there")
        device.run("echo vivid.0 >/sys/bus/platform/drivers/vivid/bind")
        at, frames = time.monotonic(), seen["loop"]["frames"]
        status(device, lambda seen: running(seen) and seen["loop"]["frames"] > frames)
        longest = max(longest, time.monotonic() - at)
    after = descriptors()
    expect(after <= before, f"{before} descriptors before, {after} after {times} times")
    print(f"     unplugged {times} times: running again after {longest:.1f} s at most, {after} descriptors, {before} before")
