#!/usr/bin/python3
"""A camera that speaks HTTP, for tests/streams:   http_camera.py PORT JPEG…

  /stream?dashes=0..2&length=yes|no&pictures=N   multipart/x-mixed-replace, as differently as cameras write it
  /snapshot                                      one picture a request, the next each time

The user is `viewer`, the password `hunter2`. It says `ready` on stdout.
"""

import base64
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PICTURES = [open(path, "rb").read() for path in sys.argv[2:]]
FPS = 10
CREDENTIALS = "Basic " + base64.b64encode(b"viewer:hunter2").decode()


class Camera(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked = 0

    def do_GET(self):
        url = urlsplit(self.path)
        options = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if self.headers.get("Authorization") != CREDENTIALS:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif url.path == "/stream":
            self.stream(int(options.get("dashes", 2)), options.get("length", "yes"), int(options.get("pictures", 0)))
        elif url.path == "/snapshot":
            picture = PICTURES[Camera.asked % len(PICTURES)]
            Camera.asked += 1
            self.send_response(200)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(len(picture)))
            self.end_headers()
            self.wfile.write(picture)
        else:
            self.send_error(404)

    def stream(self, dashes, length, pictures):
        self.close_connection = True
        self.send_response(200)
        # Some cameras count the dashes of the line among those of the boundary.
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={'-' * dashes}frame")
        self.end_headers()
        shown = 0
        try:
            while not pictures or shown < pictures:
                picture = PICTURES[shown % len(PICTURES)]
                head = f"\r\n--frame\r\nContent-Type: image/jpeg\r\n"
                if length == "yes":
                    head += f"Content-Length: {len(picture)}\r\n"
                self.wfile.write(head.encode() + b"\r\n" + picture)
                shown += 1
                time.sleep(1 / FPS)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Camera)
server.daemon_threads = True
print("ready", flush=True)
server.serve_forever()
