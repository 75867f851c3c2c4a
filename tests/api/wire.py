"""Raw sockets: what goes over the wire is what the test says, whole, in pieces, late, or wrong."""
import json
import random
import socket
import struct

# Longest wait for an answer or a close; a limit of the server that is longer than this is none.
PATIENCE_S = 60


def connect(address, limit=PATIENCE_S, receive_bytes=None):
    client = socket.socket()
    if receive_bytes:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    client.settimeout(limit)
    client.connect(address)
    return client


def head(method, path, length=None, *more):
    lines = [f"{method} {path} HTTP/1.1", "host: device", *more]
    if length is not None:
        lines += ["content-type: application/json", f"content-length: {length}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def post(path, body, *more):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head("POST", path, len(body), *more) + body


def statuses(data):
    """Status of each answer in what came, by its status lines; pictures and JSON hold none."""
    found = []
    while data:
        start, _, rest = data.partition(b"\r\n\r\n")
        if not start.startswith(b"HTTP/1."):
            break
        found.append(int(start.split(b" ", 2)[1]))
        length = next((int(line.split(b":")[1]) for line in start.split(b"\r\n")
                       if line.lower().startswith(b"content-length:")), None)
        if length is None:
            break
        data = rest[length:]
    return found


def read_all(client):
    """Until the server closes; what a reset cuts off is what came before it."""
    data = bytearray()
    try:
        while piece := client.recv(1 << 16):
            data += piece
    except ConnectionError:
        pass
    return bytes(data)


def exchange(address, data, *, shut=True, limit=PATIENCE_S):
    """Sends bytes, closes our direction, and returns the statuses that come until the server closes the other.

    Raises TimeoutError when it neither answers to the end nor closes.
    """
    with connect(address, limit) as client:
        try:
            client.sendall(data)
            if shut:
                client.shutdown(socket.SHUT_WR)
        except TimeoutError:
            raise
        except OSError:
            # The server had enough before it had all.
            pass
        return statuses(read_all(client))


def first_status(client):
    """Status of the first answer, or None when the server closes without one."""
    data = bytearray()
    try:
        while b"\r\n" not in data:
            piece = client.recv(1 << 12)
            if not piece:
                return None
            data += piece
    except ConnectionError:
        return None
    return int(data.split(b" ", 2)[1])


def reset(client):
    """Closes so that the server gets a reset."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def mutated(data, seed):
    """The bytes with a few things done to them, the same for the same seed."""
    chance, data = random.Random(seed), bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at, kind = chance.randrange(len(data) + 1), chance.randrange(7)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[at:at] = chance.randbytes(chance.randint(1, 16))
        elif kind == 2:
            del data[at:at + chance.randint(1, 64)]
        elif kind == 3:
            data[at:at] = data[at:at + chance.randint(1, 64)]
        elif kind == 4:
            del data[at:]
        elif kind == 5:
            words = (b"\r\n", b"\0", b"{", b"[", b'"', b"-1", b"1e999", b"null", b"\xff\xfe", b"%00", b"99999999999999999999")
            data[at:at] = chance.choice(words)
        else:
            # The head is short beside the picture, and has more to break.
            end = data.find(b"\r\n\r\n") + 4
            if 4 <= end <= len(data):
                data[chance.randrange(end)] = chance.randrange(256)
    return bytes(data)
