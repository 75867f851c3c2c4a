#!/usr/bin/env python3
"""What becomes of the loop when the peer of a source or an output is absent, lost, silent, and back again.

  tests/fault_table.py BINARY [--only NAME]... [--keep DIR]

A row a peer, each a run of the binary with the demo scene as its first source: the peer is absent at the start, comes, is
silent (SIGSTOP), goes on, is lost (SIGKILL, or its directory or device goes), and is back. `/status` must call the device
degraded with a reason that names the part while the peer is away, and running when it is there; frames of the demo scene
must go on all the time; memory, descriptors and threads must be those of before. A peer that is silent is no trouble for
an output with room in its queue: there only the loop is watched. Prints a line a row; exits 1 when one failed. Needs the
Debian packages of tests/packages.sh.
"""
import argparse
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SBIN = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
# A machine with two cores that others use too.
PATIENCE_S = 60
# The demo scene gives ten frames a second: a loop without any for so long stands still.
STILL_S = 5
# How long a silent peer is left alone.
SILENT_S = 8
# Rows at once.
ABREAST = 3
GROWTH = {"descriptors": 4, "threads": 2, "rss_mb": 16}

POSTS = """
import http.server, sys
class Hook(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Hook).serve_forever()
"""
LINES = """
import os, socket, sys
if os.path.exists(sys.argv[1]): os.unlink(sys.argv[1])
server = socket.socket(socket.AF_UNIX); server.bind(sys.argv[1]); server.listen(1)
while True:
    peer, _ = server.accept()
    while peer.recv(65536): pass
"""


class Failed(Exception):
    pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Child:
    """A peer that is a process, or several in a pipe."""

    silences = True

    def __init__(self, command, shell=False):
        self.command, self.shell, self.process = command, shell, None

    def start(self):
        self.process = subprocess.Popen(self.command, shell=self.shell, env=SBIN, start_new_session=True,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def signal(self, number):
        os.killpg(self.process.pid, number)

    def silence(self):
        self.signal(signal.SIGSTOP)

    def go_on(self):
        self.signal(signal.SIGCONT)

    def stop(self):
        if self.process:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None


class Folder:
    """A peer that is a directory: a partition that is mounted, or not."""

    silences = False

    def __init__(self, path):
        self.path = path

    def start(self):
        self.path.mkdir()

    def stop(self):
        shutil.rmtree(self.path, ignore_errors=True)


class Cable:
    """A peer at the other end of a serial cable, which reads when it is asked to."""

    silences = True

    def __init__(self, path):
        self.path, self.ends, self.reading = path, None, threading.Event()
        self.path.symlink_to("/dev/ttyUSB99")

    def start(self):
        self.ends = pty.openpty()
        os.set_blocking(self.ends[0], False)
        self.path.unlink()
        self.path.symlink_to(os.ttyname(self.ends[1]))
        self.reading.set()
        threading.Thread(target=self.read, args=(self.ends[0],), daemon=True).start()

    def read(self, end):
        while self.ends and self.ends[0] == end:
            if self.reading.wait(0.1):
                try:
                    os.read(end, 65536)
                except BlockingIOError:
                    time.sleep(0.01)
                except OSError:
                    return

    def silence(self):
        self.reading.clear()

    def go_on(self):
        self.reading.set()

    def stop(self):
        if self.ends:
            self.path.unlink()
            self.path.symlink_to("/dev/ttyUSB99")
            ends, self.ends = self.ends, None
            time.sleep(0.2)
            for end in ends:
                os.close(end)


class Row:
    """One run of the binary, with one peer."""

    def __init__(self, binary, name, folder):
        self.binary, self.name, self.folder = binary, name, folder
        self.port = free_port()
        self.peer, self.config, self.word, self.silence_shows = PEERS[name](folder)
        self.process = None
        self.watched = None

    def run(self):
        (self.folder / "device.toml").write_text(
            f'listen = "127.0.0.1:{self.port}"\n' + self.config.replace("DEMO", '[[source]]\nuri = "demo:?fps=10"'))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FIRSTLIGHT_")}
        environment["FIRSTLIGHT_STATE_DIR"] = str(self.folder / "state")
        log = (self.folder / "log").open("w")
        self.process = subprocess.Popen([self.binary, "run", "-c", self.folder / "device.toml"], env=environment,
                                        stdout=subprocess.DEVNULL, stderr=log)
        watch = threading.Thread(target=self.watch, daemon=True)
        watch.start()
        steps = []
        try:
            for what, act in self.steps():
                act()
                steps.append(what)
            if self.watched:
                raise Failed(self.watched)
            self.process.terminate()
            if self.process.wait(20) != 0:
                raise Failed(f"exit {self.process.returncode} on SIGTERM")
        except (Failed, subprocess.TimeoutExpired) as error:
            tail = (self.folder / "log").read_text()[-1500:]
            return False, f"after {', '.join(steps) or 'the start'}: {error}\n{tail}"
        finally:
            self.process.kill()
            self.process.wait()
            self.peer.stop()
        return True, ", ".join(steps)

    def steps(self):
        yield "absent", lambda: self.wait("degraded")
        yield "came", lambda: (self.peer.start(), self.wait("running"))
        before = self.measure()
        if self.peer.silences:
            yield "silent", lambda: (self.peer.silence(), self.wait("degraded") if self.silence_shows else time.sleep(SILENT_S))
            yield "went on", lambda: (self.peer.go_on(), self.wait("running"))
        yield "lost", lambda: (self.peer.stop(), self.wait("degraded"))
        yield "back", lambda: (self.peer.start(), self.wait("running"))
        yield "no growth", lambda: self.compare(before)

    def status(self):
        return json.load(urllib.request.urlopen(f"http://127.0.0.1:{self.port}/status", timeout=20))

    def wait(self, state):
        """For a state, and when it is degraded, for the reason that is expected."""
        ends, status = time.monotonic() + PATIENCE_S, None
        while time.monotonic() < ends:
            if self.process.poll() is not None:
                raise Failed(f"the process ended with {self.process.returncode}")
            if self.watched:
                raise Failed(self.watched)
            try:
                status = self.status()
            except OSError:
                time.sleep(0.2)
                continue
            # A state that passes through is none: it must still be so a second later.
            if self.fits(status, state):
                time.sleep(1)
                if self.fits(self.status(), state):
                    return
            time.sleep(0.2)
        raise Failed(f"never {state} ({self.word}): {status and (status['state'], status['reasons'])}")

    def fits(self, status, state):
        said = any(self.word in reason for reason in status["reasons"])
        return status["state"] == state and (state == "running" or said)

    def watch(self):
        """That frames of the demo scene go on all the time."""
        frames, since = 0, None
        while self.process.poll() is None:
            try:
                now = self.status()["sources"][0]["captured"]
            except (OSError, IndexError):
                time.sleep(0.2)
                continue
            if now != frames or since is None:
                frames, since = now, time.monotonic()
            elif time.monotonic() - since > STILL_S:
                self.watched = f"the loop stood still at {frames} frames"
                return
            time.sleep(0.2)

    def measure(self):
        pid = self.process.pid
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return {"rss_mb": int(fields["VmRSS"].split()[0]) / 1024, "threads": int(fields["Threads"]),
                "descriptors": len(os.listdir(f"/proc/{pid}/fd"))}

    def compare(self, before):
        after = self.measure()
        grown = {name: (before[name], after[name]) for name, bound in GROWTH.items() if after[name] - before[name] > bound}
        if grown:
            raise Failed(f"grown: {grown}")


def source(uri):
    return f'DEMO\n[[source]]\nuri = "{uri}"\n[output]\njson = "none"\n'


def sink(text):
    return f"{text}\nDEMO\n"


def rtsp(folder):
    port = free_port()
    subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=10", "-frames:v", "20",
                    "-start_number", "0", folder / "%d.png"], check=True)
    server = ["/usr/bin/python3", ROOT / "tests/streams/rtsp_server.py", str(port), folder / "%d.png"]
    return Child(server), source(f"rtsp://127.0.0.1:{port}/live"), "source 1", True


def http(folder):
    port = free_port()
    picture = folder / "camera.jpg"
    subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x240", "-frames:v", "1", picture],
                   check=True)
    camera = [sys.executable, ROOT / "tests/streams/http_camera.py", str(port), picture]
    return Child(camera), source(f"http://viewer:hunter2@127.0.0.1:{port}/stream"), "source 1", True


def shm(folder):
    path = f"/dev/shm/{folder.name}-{os.getpid()}"
    pipe = (f"ffmpeg -v error -re -f lavfi -i testsrc2=size=320x240:rate=10 -f rawvideo -pix_fmt rgb24 - | "
            f"{sys.executable} {ROOT}/scripts/shm_producer.py {path} 320 240")
    return Child(pipe, shell=True), source(f"shm:{path}"), "source 1", True


def watch(folder):
    return Folder(folder / "in"), source(f"watch:{folder}/in"), "source 1", False


def unix(folder):
    path = folder / "lines.sock"
    return Child([sys.executable, "-c", LINES, path]), sink(f'output.json = "unix:{path}"'), "lines.sock", False


def file(folder):
    return Folder(folder / "mnt"), sink(f'output.json = "{folder}/mnt/lines"'), "mnt/lines", False


def serial(folder):
    return Cable(folder / "tty"), sink(f'output.json = "{folder}/tty"'), "tty", False


def spool(folder):
    return Folder(folder / "mnt"), sink(f'output.json = "none"\noutput.spool = "{folder}/mnt/spool"\n'
                                        "output.spool_interval_s = 0.5"), "spool", False


def mqtt(folder):
    port = free_port()
    (folder / "broker.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    config = (f'output.json = "none"\n[mqtt]\nurl = "mqtt://127.0.0.1:{port}"\nanswers_per_s = 5\nkeep_alive_s = 5\n'
              f'spool = "{folder}/mqtt"\n')
    return Child(["mosquitto", "-c", folder / "broker.conf"]), sink(config), "mqtt", True


def webhook(folder):
    port = free_port()
    config = (f'output.json = "none"\n[[webhook]]\nurl = "http://127.0.0.1:{port}/"\nanswers_per_s = 5\ntimeout_s = 2.0\n'
              f'spool = "{folder}/webhook"\n')
    return Child([sys.executable, "-c", POSTS, str(port)]), sink(config), "webhook", True


def pictures(folder):
    config = f'output.json = "none"\n[recording.pictures]\ndir = "{folder}/mnt/pictures"\nevery_s = 0.5\nsize_mb = 8\n'
    return Folder(folder / "mnt"), sink(config), "pictures", False


def video(folder):
    config = f'output.json = "none"\n[recording.video]\ndir = "{folder}/mnt/video"\nsegment_s = 2\nsize_mb = 8\n'
    return Folder(folder / "mnt"), sink(config), "video", False


def display(folder):
    return Folder(folder / "mnt"), sink(f'output.json = "none"\ndisplay.target = "png:{folder}/mnt/screen.png"'), "display", False


PEERS = {peer.__name__: peer for peer in (rtsp, http, shm, watch, unix, file, serial, spool, mqtt, webhook, pictures, video,
                                          display)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path)
    parser.add_argument("--only", action="append", choices=PEERS)
    parser.add_argument("--keep", type=Path, help="folder to work in, which stays")
    args = parser.parse_args()
    binary = args.binary.resolve()
    with tempfile.TemporaryDirectory(prefix="firstlight-faults-") as scratch:
        root = args.keep or Path(scratch)

        def row(name):
            folder = root / name
            folder.mkdir(parents=True)
            return name, *Row(binary, name, folder).run()

        bad = 0
        with ThreadPoolExecutor(ABREAST) as pool:
            for name, good, said in pool.map(row, args.only or PEERS):
                bad += not good
                print(f"{'ok ' if good else 'BAD'} {name:9} {said}", flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
