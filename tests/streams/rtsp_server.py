#!/usr/bin/python3
"""A real RTSP server (gst-rtsp-server) that plays pictures in a circle, for tests/streams.

  rtsp_server.py PORT PICTURES [--codec h264|h265|jpeg] [--fps N] [--user USER --password PASSWORD]

PICTURES is a printf pattern of PNG files, counted from 0. The stream is rtsp://127.0.0.1:PORT/live. With a user, the
server asks for Digest authentication. It says `ready` on stdout, and then a line for each request with its URL.
"""

import argparse

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

ENCODERS = {
    "h264": "x264enc tune=zerolatency speed-preset=veryfast pass=quant quantizer=14 key-int-max=10 "
    "! video/x-h264,profile=high ! rtph264pay config-interval=-1 name=pay0 pt=96",
    "h265": "x265enc tune=zerolatency speed-preset=ultrafast ! rtph265pay name=pay0 pt=96",
    "jpeg": "jpegenc quality=95 ! rtpjpegpay name=pay0 pt=26",
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port")
    parser.add_argument("pictures")
    parser.add_argument("--codec", choices=ENCODERS, default="h264")
    parser.add_argument("--fps", type=int, default=10)
    parser.add_argument("--user")
    parser.add_argument("--password")
    args = parser.parse_args()

    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(args.port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        f'( multifilesrc location="{args.pictures}" loop=true caps="image/png,framerate={args.fps}/1" ! pngdec '
        f"! videoconvert ! video/x-raw,format=I420 ! {ENCODERS[args.codec]} )"
    )
    factory.set_shared(True)
    if args.user:
        token = GstRtspServer.RTSPToken()
        token.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, "viewer")
        auth = GstRtspServer.RTSPAuth()
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(args.user, args.password, token)
        server.set_auth(auth)
        factory.add_role_from_structure(
            Gst.Structure.new_from_string("viewer, media.factory.access=true, media.factory.construct=true")
        )
    server.get_mount_points().add_factory("/live", factory)
    server.connect("client-connected", lambda _, client: client.connect("describe-request", described))
    if not server.attach(None):
        raise SystemExit(f"port {args.port} is taken")
    print("ready", flush=True)
    GLib.MainLoop().run()


def described(_, context):
    print(f"DESCRIBE {context.uri.get_request_uri()}", flush=True)


main()
