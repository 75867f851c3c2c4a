"""Requests that are wrong: too large, badly framed, no text, no JSON, no bytes that mean anything."""
import random

from abuse import FINE, GROWTH_SMALL_MB, MODEL
from served import expect, short
from wire import connect, exchange, first_status, head, mutated, post

OBJECTS = "/infer/object_detection"
BODY_MAX = 48 << 20


def refuse(bench, data, expected, what):
    """One of these statuses, or a close where None is among them."""
    found = exchange(bench.address, data)
    seen = found[0] if found else None
    expect(seen in expected, f"{what}: {seen}, not one of {expected}")
    return seen


def long_heads(bench):
    """A head of any length beyond the limit is a 431, in one header or in many, and costs no memory."""
    with bench.served.watched(GROWTH_SMALL_MB) as seen:
        for size in (20_000, 200_000, 5_000_000):
            refuse(bench, head("GET", "/healthz", None, "x-long: " + "a" * size), (431, None), f"a header of {size} bytes")
            many = [f"x-{index}: {'b' * 40}" for index in range(size // 50)]
            refuse(bench, head("GET", "/healthz", None, *many), (431, None), f"{len(many)} headers")
            refuse(bench, head("GET", "/healthz?" + "c" * size), (414, 431, None), f"a path of {size} bytes")
    found = exchange(bench.address, head("GET", "/healthz", None, "x-long: " + "a" * 20_000), shut=False)
    expect(found == [431], f"a header of 20,000 bytes: {found}, not a 431 that can be read")
    bench.alive()
    return seen["note"]


def long_bodies(bench):
    """A body over the limit is a 413 before it is read, by its length or by its chunks, on every route that has one."""
    routes = (OBJECTS, "/infer/classification", "/model/add", "/model/remove", f"/{MODEL}", "/inference_pipelines/initialise")
    with bench.served.watched(GROWTH_SMALL_MB) as seen:
        for path in routes:
            for length in (BODY_MAX + (8 << 20), 1 << 40, (1 << 63) - 1):
                with connect(bench.address) as client:
                    client.sendall(head("POST", path, length) + b"{")
                    status = first_status(client)
                expect(status == 413, f"{path}: {length} bytes announced: {status}")
            refuse(bench, head("POST", path, 1 << 64), (400, 413, None), f"{path}: a length of 2^64")
        chunked = head("POST", OBJECTS, None, "content-type: application/json", "transfer-encoding: chunked")
        piece = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
        refuse(bench, chunked + piece * 64, (413, None), "64 MiB in chunks")
    bench.alive()
    return seen["note"]


def many_bodies(bench):
    """Bodies that are each within their limit and together are not: some are refused, none kills."""
    body = b'{"model_id": "' + b"a" * (30 << 20)
    with bench.served.watched(GROWTH_SMALL_MB) as seen:
        clients = [connect(bench.address) for _ in range(8)]
        found = []
        try:
            for client in clients:
                try:
                    client.sendall(head("POST", OBJECTS, 40 << 20) + body)
                except ConnectionError:
                    pass
            for client in clients:
                client.settimeout(1)
                try:
                    found.append(first_status(client))
                except TimeoutError:
                    found.append("waits")
        finally:
            for client in clients:
                client.close()
    expect(set(found) <= {"waits", 507, 503, 413, 408, None} and set(found) != {"waits"}, f"{found}")
    bench.alive()
    return f"{found}; {seen['note']}"


def bad_framing(bench):
    """Chunks and lengths that are none are a 400 or a close, never an answer to half a request."""
    chunked = head("POST", OBJECTS, None, "content-type: application/json", "transfer-encoding: chunked")
    refused = (400, 411, 413, 501, None)
    for body in (b"ZZ\r\n{}\r\n0\r\n\r\n", b"-1\r\n{}\r\n0\r\n\r\n", b"FFFFFFFFFFFFFFFFF\r\n{}", b"0x2\r\n{}\r\n0\r\n\r\n",
                 b"2\r\n{}XX0\r\n\r\n", b"2;" + b"a" * 100_000 + b"\r\n{}\r\n0\r\n\r\n", b"\r\n\r\n", b"2 2\r\n{}\r\n0\r\n\r\n",
                 b"2\n{}\n0\n\n", b"7FFFFFFFFFFFFFFF\r\n{}", b"5\r\n{}\r\n0\r\n\r\n"):
        refuse(bench, chunked + body, refused + (422,), f"chunks {body[:24]!r}")
    valid = bench.request()
    end = valid.find(b"\r\n\r\n")
    for more in (b"content-length: 5", b"transfer-encoding: chunked", b"content-length: -1", b"content-length: 1e3",
                 b"content-length: 0x10", b"transfer-encoding: gzip", b"transfer-encoding: chunked, identity"):
        both = valid[:end] + b"\r\n" + more + valid[end:]
        refuse(bench, both, refused, f"beside its length {more!r}")
    for line in (b"GET /healthz\r\n\r\n", b"GET  /healthz HTTP/1.1\r\n\r\n", b"GET /healthz HTTP/9.9\r\n\r\n",
                 b"G\0T /healthz HTTP/1.1\r\n\r\n", b"GET /healthz HTTP/1.1\r\nhost : a\r\n\r\n",
                 b"GET /healthz HTTP/1.1\r\n: a\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"):
        refuse(bench, line, (400, 404, 405, 505, None), f"{line!r}")
    bench.alive()


def no_text(bench):
    """Bytes that are no UTF-8 in path, headers and body are refused, and are not answered with what they hold."""
    body = b'{"model_id": "\xff\xfe", "image": {"type": "base64", "value": "\xc3\x28"}}'
    for data, expected in ((b"GET /\xff\xfe HTTP/1.1\r\nhost: a\r\n\r\n", (400, 404, None)),
                           (head("GET", "/%ff%fe/%00"), (400, 404, 422)),
                           (head("GET", "/model/registry?api_key=%ff%fe%00"), (200, 400, 401, 403)),
                           (head("POST", f"/{MODEL}?confidence=%ff", 4) + b"AAAA", (400, 422)),
                           (b"GET /healthz HTTP/1.1\r\nhost: a\r\nx-a: \xff\xfe\r\n\r\n", (200, 400, None)),
                           (b"GET /healthz HTTP/1.1\r\nhost: a\r\nauthorization: Bearer \xff\r\n\r\n", (200, 400, None)),
                           (post(OBJECTS, body), (400, 422)), (post("/model/add", b"\xff\xfe\x00\x01"), (400, 422)),
                           (post(f"/{MODEL}", bytes(range(256)) * 8), (400, 422))):
        refuse(bench, data, expected, f"{data[-60:]!r}")
    bench.alive()


def deep_json(bench):
    """A hundred thousand brackets, and other JSON that is meant to hurt, are refused; the stack stays whole."""
    depth = 100_000
    long_number = b"1" * 1_000_000
    with bench.served.watched(GROWTH_SMALL_MB) as seen:
        for body in (b"[" * depth, b'{"a":' * depth, b"[" * depth + b"]" * depth, b'{"image":' * depth + b"1" + b"}" * depth,
                     b'{"model_id": "' + MODEL.encode() + b'", "image": ' + b"[" * depth + b"]" * depth + b"}",
                     b'{"model_id": "parts/1", "image": {"type": "base64", "value": ' + b'{"a":' * depth + b"1" + b"}" * depth
                     + b"}}", b'{"confidence": ' + long_number + b"}", b'{"confidence": 1e' + long_number + b"}",
                     b'{"model_id": "' + b"\\u0000" * 100_000 + b'"}', b'{"' + b"a" * 1_000_000 + b'": 1}',
                     b"{" + b",".join(b'"k%d": %d' % (index, index) for index in range(100_000)) + b"}",
                     b'{"model_id": "' + b"a/" * 500_000 + b'"}', b"null", b"7", b'"text"', b"", b" ", b"{}", b"[]",
                     b'{"model_id": "\\ud800"}', b'{"model_id": null}', b"{'model_id': 1}", b"NaN", b'{"confidence": NaN}'):
            for path in (OBJECTS, "/model/add", "/inference_pipelines/initialise"):
                # The model's id may be all that is read; one of control characters may just not be in the cache.
                known = (200,) if path == "/model/add" and MODEL.encode() in body else (503,) if b"\\u" in body else ()
                refuse(bench, post(path, body), (400, 413, 422, *known), f"{path}: {short(body.decode(), 60)}")
    bench.alive()
    return seen["note"]


def wild_values(bench):
    """Fields out of every range: an answer or a refusal with words, never a defect."""
    values = (-1, 0, 1e308, -1e308, 2 ** 63, -2 ** 63, 2 ** 64, 10 ** 400, 0.1, True, None, "", "x", "best", [], {}, [1], ["a"] * 9)
    fields = ("confidence", "iou_threshold", "max_detections", "max_candidates", "class_filter", "class_agnostic_nms",
              "visualize_predictions", "visualization_stroke_width", "visualization_labels", "disable_preproc_auto_orient",
              "mask_decode_mode", "tradeoff_factor", "response_mask_format", "keypoint_confidence", "id", "source", "unknown")
    with bench.served.watched(GROWTH_SMALL_MB) as seen:
        for field in fields:
            for value in values:
                refuse(bench, bench.request(**{field: value}), (200, 400, 422), f"{field} = {short(value, 40)}")
    bench.alive()
    return seen["note"]


def random_bytes(bench):
    """Random bytes, seeded: an answer or a close."""
    chance = random.Random(bench.seed)
    with bench.served.watched(GROWTH_SMALL_MB) as seen:
        for _ in range(5000 if bench.full else 200):
            data = chance.randbytes(chance.choice((1, 10, 100, 1000, 20_000)))
            found = exchange(bench.address, data, patience=0)
            expect(set(found) <= FINE, f"{data[:60]!r}: {found}")
    bench.alive()
    return seen["note"]


def mutations(bench):
    """Valid requests with seeded damage: an answer or a close, and no defect."""
    samples = [bench.request(), post("/model/add", {"model_id": MODEL, "api_key": "k"}), post(f"/{MODEL}?confidence=20", b"AAAA"),
               post("/model/remove", {"model_id": "none/1"}), head("GET", "/model/registry?api_key=k"), bench.request(id="a" * 32),
               post("/inference_pipelines/initialise", {"video_configuration": {"type": "VideoConfiguration"}}),
               post(f"/{MODEL}", b"--a\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n" + bench.small + b"\r\n--a--\r\n")]
    samples[-1] = samples[-1].replace(b"application/json", b"multipart/form-data; boundary=a")
    with bench.served.watched(GROWTH_SMALL_MB) as seen:
        for index in range(10_000 if bench.full else 400):
            data = mutated(samples[index % len(samples)], bench.seed * 1_000_000 + index)
            try:
                # Long enough for most that are answered at all: half of them are no whole request.
                found = exchange(bench.address, data, patience=0.1)
            except TimeoutError:
                expect(False, f"mutation {index} of seed {bench.seed} is neither answered nor closed: {data[:300]!r}")
            expect(set(found) <= FINE, f"mutation {index} of seed {bench.seed}: {found}: {data[:300]!r}")
    bench.alive()
    return seen["note"]


CHECKS = (long_heads, long_bodies, many_bodies, bad_framing, no_text, deep_json, wild_values, random_bytes, mutations)
