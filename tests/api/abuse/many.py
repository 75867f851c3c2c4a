"""More connections than there is room for."""
import resource
import selectors
import socket
import time

from abuse import GROWTH_SMALL_MB
from served import expect
from wire import head

SAMPLE, FULL = 200, 10_000
HOLD_S = 5


def connections(bench):
    """200 connections at once (--full: 10,000), each of which asks: answered or closed, and whoever comes after is served."""
    count = FULL if bench.full else SAMPLE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = count + 512
    expect(hard == resource.RLIM_INFINITY or hard >= room, f"this user may open {hard} files; {room} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, room), hard))
    clients = []
    try:
        with bench.served.watched(GROWTH_SMALL_MB) as seen:
            opened, refused = open_all(bench.address, count, clients)
            asked = time.monotonic()
            answered = ask_all(clients)
            served = 0
            while time.monotonic() - asked < HOLD_S:
                try:
                    served += bench.served.get("/healthz", limit=20).status == 200
                except OSError:
                    pass
                time.sleep(0.1)
    finally:
        for client in clients:
            client.close()
    deadline = time.monotonic() + 20
    while True:
        try:
            bench.alive()
            break
        except OSError:
            expect(time.monotonic() < deadline, "nobody is served after the crowd is gone")
    expect(served > 0, "nobody else is served while the crowd is there")
    expect(opened + refused == count, f"{opened} opened and {refused} refused of {count}")
    return f"{opened} opened, {answered} answered, {served} others served; {seen['note']}"


def open_all(address, count, clients):
    """Connects them all without waiting for each; how many could, and how many could not."""
    selector, opened, refused = selectors.DefaultSelector(), 0, 0
    waiting = 0
    for _ in range(count):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(address)
        selector.register(client, selectors.EVENT_WRITE)
        clients.append(client)
        waiting += 1
        # A listening queue is short: what does not fit is tried again by the kernel, seconds later.
        while waiting >= 64:
            done = settle(selector)
            opened, refused, waiting = opened + done[0], refused + done[1], waiting - sum(done)
    deadline = time.monotonic() + 60
    while waiting and time.monotonic() < deadline:
        done = settle(selector)
        opened, refused, waiting = opened + done[0], refused + done[1], waiting - sum(done)
    return opened, refused + waiting


def settle(selector):
    opened = refused = 0
    for key, _ in selector.select(0.1):
        selector.unregister(key.fileobj)
        if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            refused += 1
        else:
            opened += 1
    return opened, refused


def ask_all(clients):
    """Each asks once; how many had an answer within a few seconds."""
    selector, answered = selectors.DefaultSelector(), 0
    for client in clients:
        try:
            client.send(head("GET", "/healthz"))
            selector.register(client, selectors.EVENT_READ)
        except OSError:
            pass
    deadline = time.monotonic() + HOLD_S
    while selector.get_map() and time.monotonic() < deadline:
        for key, _ in selector.select(0.2):
            selector.unregister(key.fileobj)
            try:
                answered += key.fileobj.recv(64).startswith(b"HTTP/1.1 ")
            except OSError:
                pass
    return answered


CHECKS = (connections,)
