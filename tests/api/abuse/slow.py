"""Clients that take their time: heads, bodies and answers by the byte, sockets half closed or cut."""
import socket
import threading
import time

from abuse import GROWTH_SMALL_MB
from served import expect
from wire import PATIENCE_S, connect, exchange, first_status, head, reset

CLIENTS = 20
# The server's limits, as its documentation says them: a head within 5 s; a body at 50 kB/s after 5 s; an answer taken
# within 25 s. A busy machine looks at its clock a little later.
HEAD_S, BODY_S, READ_S = 20, 25, 50


def drip(bench, sent, dripped, limit_s):
    """Sends some bytes, then one each half second, until the server has enough; the seconds that took, for each client."""
    taken, lock = [], threading.Lock()

    def client():
        started, status = time.monotonic(), "still open"
        with connect(bench.address) as slow:
            slow.sendall(sent)
            slow.settimeout(0.5)
            while time.monotonic() - started < limit_s:
                try:
                    slow.sendall(dripped)
                    if not slow.recv(4096):
                        status = "closed"
                        break
                    status = "answered"
                    break
                except TimeoutError:
                    continue
                except ConnectionError:
                    status = "closed"
                    break
        with lock:
            taken.append((time.monotonic() - started, status))

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect(all(status != "still open" for _, status in taken), f"after {limit_s} s: {taken}")
    return max(seconds for seconds, _ in taken)


def slow_heads(bench):
    """Twenty heads by the byte: none is waited for, and others are served meanwhile."""
    with bench.served.watched(GROWTH_SMALL_MB) as seen:
        slowest = drip(bench, b"POST /infer/object_detection HTTP/1.1\r\nhost: device\r\nx-slow: ", b"a", HEAD_S)
    bench.alive()
    return f"gone after {slowest:.1f} s; {seen['note']}"


def slow_bodies(bench):
    """Twenty bodies by the byte, with length and in chunks: none is waited for."""
    announced = head("POST", "/infer/object_detection", 100_000) + b'{"model_id":'
    chunked = head("POST", "/infer/object_detection", None, "content-type: application/json", "transfer-encoding: chunked")
    with bench.served.watched(GROWTH_SMALL_MB) as seen:
        slowest = max(drip(bench, announced, b" ", BODY_S), drip(bench, chunked, b"1\r\n \r\n", BODY_S))
    bench.alive()
    return f"gone after {slowest:.1f} s; {seen['note']}"


def slow_readers(bench):
    """Twenty clients that ask for much and read next to nothing: they are dropped, and their answers with them."""
    data = bench.picture.read_bytes()
    request = bench.request(data, visualize_predictions=True)
    gone, lock = [], threading.Lock()

    def client():
        started = time.monotonic()
        with connect(bench.address, receive_bytes=4096) as slow:
            try:
                # Pipelined, so that no socket buffer holds all answers.
                for _ in range(40):
                    slow.settimeout(1)
                    slow.sendall(request)
            except (TimeoutError, ConnectionError):
                pass
            while time.monotonic() - started < READ_S:
                time.sleep(1)
                try:
                    slow.settimeout(0.2)
                    if not slow.recv(16):
                        break
                    slow.send(b"G")
                except TimeoutError:
                    continue
                except ConnectionError:
                    break
            else:
                return
        with lock:
            gone.append(time.monotonic() - started)

    with bench.served.watched(GROWTH_SMALL_MB) as seen:
        threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            time.sleep(2)
            expect(bench.served.get("/healthz", limit=20).status == 200, "others are not served")
        for thread in threads:
            thread.join()
    expect(len(gone) == CLIENTS, f"{CLIENTS - len(gone)} of {CLIENTS} are still there after {READ_S} s")
    bench.alive()
    return f"gone after {max(gone):.1f} s; {seen['note']}"


def half_closed(bench):
    """A client that closes its direction after the request is answered; one that closes it within, is let go."""
    request = bench.request()
    found = exchange(bench.address, request)
    expect(found in ([200], []), f"{found}")
    for part in (b"", request[:10], request[:60], request[:-100]):
        started = time.monotonic()
        found = exchange(bench.address, part)
        expect(not found or 400 <= found[0] < 500, f"{part[:60]}: {found}")
        expect(time.monotonic() - started < BODY_S, f"{part[:60]}: held for {time.monotonic() - started:.0f} s")
    bench.alive()


def cut(bench):
    """Connections that are reset at every point: before, within and after a request, and within its answer."""
    request, files = bench.request(bench.picture.read_bytes()), bench.served.open_files()
    with bench.served.watched(GROWTH_SMALL_MB) as seen:
        for round_ in range(400 if bench.full else 60):
            client = connect(bench.address)
            client.sendall(request[:len(request) * (round_ % 8) // 6])
            if round_ % 3 == 0:
                time.sleep(0.02)
            if round_ % 8 >= 6 and round_ % 2:
                client.settimeout(1)
                try:
                    client.recv(10)
                except OSError:
                    pass
            reset(client)
    bench.alive()
    time.sleep(1)
    expect(bench.served.open_files() <= files + 8, f"{bench.served.open_files()} files are open, before {files}")
    return seen["note"]


def silent(bench):
    """Connections that say nothing take no place from those that do."""
    quiet = [connect(bench.address) for _ in range(100)]
    try:
        bench.alive()
    finally:
        for client in quiet:
            client.close()
    with connect(bench.address, PATIENCE_S) as client:
        client.sendall(head("GET", "/healthz"))
        expect(first_status(client) == 200, "the first of two requests on a connection")
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(head("GET", "/healthz"))
        expect(first_status(client) is not None, "the second of two requests on a connection")


CHECKS = (slow_heads, slow_bodies, slow_readers, half_closed, cut, silent)
