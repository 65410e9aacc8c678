"""Good clients in a process of their own, on blocking sockets: not both ends share the faults of one loop.

    python -m reliability.soak.blocking CA PLACES [--seed N] [--fault NUMBER]

Prints a line of JSON twice a second with what was asked and answered since the last one, and ends with stdin.
"""

from __future__ import annotations

import argparse
import ast
import http.client
import json
import socket
import ssl
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from reliability.soak.content import (
    CLOSE,
    FILE_SIZE,
    LIMIT,
    MB,
    Wrong,
    content,
    digest,
    frame,
    local_name,
    same,
    upgrade,
)

PAUSE = 0.1


class Clients:
    """What the clients know and count."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.places: dict[str, Any] = ast.literal_eval(options.places)
        self.fault: int | None = options.fault
        self.source = ("127.0.0.1" if self.fault is None else f"127.0.1.{self.fault}", 0)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.load_verify_locations(options.authority)
        self.stop = threading.Event()
        self._lock = threading.Lock()
        self._asked: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()
        self._failed: list[tuple[str, str]] = []

    def ask(self, kind: str, run: Callable[[], None]) -> None:
        """Count a request, and whether it is answered."""
        with self._lock:
            self._asked[kind] += 1
        try:
            run()
        except Exception as exc:
            self.fail(kind, repr(exc))
        else:
            with self._lock:
                self._answered[kind] += 1

    def fail(self, kind: str, text: str) -> None:
        """Note what went wrong."""
        with self._lock:
            self._failed.append((kind, text))

    def report(self, last: bool = False) -> None:
        """Print what was counted since the last time."""
        with self._lock:
            counts = {"asked": self._asked, "answered": self._answered, "failed": self._failed, "last": last}
            line = json.dumps(counts)
            self._asked, self._answered, self._failed = Counter(), Counter(), []
        print(line, flush=True)

    def connect(self, place: str) -> socket.socket:
        """Connect to a place."""
        address = self.places[place]
        if place == "unix":
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(LIMIT)
            if self.fault is not None:
                sock.bind(local_name(self.fault))
            sock.connect(address)
            return sock
        sock = socket.create_connection(address, LIMIT, self.source)
        if place in ("tls", "https"):
            sock = self.context.wrap_socket(sock, server_hostname="127.0.0.1")
        return sock

    def http(self, scheme: str) -> http.client.HTTPConnection:
        """Return a connection that is made with the first request."""
        host, port = self.places[scheme]
        if scheme == "https":
            return http.client.HTTPSConnection(
                host, port, timeout=LIMIT, source_address=self.source, context=self.context
            )
        return http.client.HTTPConnection(host, port, timeout=LIMIT, source_address=self.source)


def receive(sock: socket.socket, size: int) -> bytes:
    """Receive exactly as much."""
    found = bytearray()
    while len(found) < size:
        data = sock.recv(min(size - len(found), 65536))
        if not data:
            raise Wrong(f"the end after {len(found)} of {size} bytes")
        found += data
    return bytes(found)


def ask_http(clients: Clients, scheme: str, random: Random) -> None:
    """Some requests on a connection that is kept."""
    connection = clients.http(scheme)

    def ask(method: str, path: str, body: bytes | None = None) -> tuple[http.client.HTTPResponse, bytes]:
        connection.request(method, path, body)
        response = connection.getresponse()
        data = response.read()
        same(response.status, 200, "status")
        return response, data

    def ask_json() -> None:
        seed = str(random.random())
        right = {"seed": seed, "digest": digest(content(seed, 1000))}
        same(json.loads(ask("GET", f"/json?seed={seed}")[1]), right, "JSON")

    def ask_echo() -> None:
        data = content(random.random(), MB)
        response, found = ask("POST", "/echo", data)
        same(response.headers["X-Digest"], digest(data), "digest of the body")
        same(found, data, "body")

    def ask_stream() -> None:
        seed, size = random.random(), random.randrange(MB)
        same(ask("GET", f"/stream?seed={seed}&size={size}")[1], content(seed, size), "stream")

    def ask_file() -> None:
        same(ask("GET", "/file")[1], content("file", FILE_SIZE), "file")

    kinds = {"json": ask_json, "echo": ask_echo, "stream": ask_stream, "file": ask_file}
    try:
        for kind in random.choices(list(kinds), k=6):
            clients.ask(f"{scheme} {kind}", kinds[kind])
    finally:
        connection.close()


def ask_echo(clients: Clients, place: str, random: Random) -> None:
    """Send pieces to an echo while the answer is read, in the end also the end of it."""

    def run() -> None:
        data = content(random.random(), random.randrange(1, 300_000))
        with clients.connect(place) as sock:
            if place == "tls":  # an object of TLS is not for two threads at once
                for start in range(0, len(data), 10_000):
                    piece = data[start : start + 10_000]
                    sock.sendall(piece)
                    same(receive(sock, len(piece)), piece, "echo")
                return
            sender = threading.Thread(target=sock.sendall, args=(data,))
            sender.start()
            found = receive(sock, len(data))
            sender.join()
            same(found, data, "echo")
            sock.shutdown(socket.SHUT_WR)
            same(sock.recv(1), b"", "after the end")

    clients.ask(f"{place} echo", run)


def _message(sock: socket.socket) -> tuple[int, bytes]:
    head, size = receive(sock, 2)
    if size == 126:
        (size,) = struct.unpack(">H", receive(sock, 2))
    elif size == 127:
        (size,) = struct.unpack(">Q", receive(sock, 8))
    return head & 15, receive(sock, size)


def ask_websocket(clients: Clients, scheme: str, random: Random) -> None:
    """Several messages before the first answer."""

    def run() -> None:
        with clients.connect(scheme) as sock:
            sock.sendall(upgrade(random.randbytes(16)))
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += receive(sock, 1)
            same(head[:12], b"HTTP/1.1 101", "status")
            messages = [content(random.random(), random.randrange(30_000)) for _ in range(4)]
            sock.sendall(b"".join(frame(message, random.randbytes(4)) for message in messages))
            for message in messages:
                same(_message(sock)[1], message, "message")
            sock.sendall(frame(struct.pack(">H", 1000), random.randbytes(4), CLOSE))
            same(_message(sock), (CLOSE, struct.pack(">H", 1000)), "close")

    clients.ask(f"{scheme} websocket", run)


def ask_datagrams(clients: Clients, place: str, random: Random) -> None:
    """Datagrams with an answer each."""

    def run() -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.settimeout(LIMIT)
            sock.connect(clients.places[place])
            for _ in range(10):
                data = content(random.random(), random.randrange(1, 8000))
                sock.send(data)
                same(sock.recv(65536), data, "datagram")

    clients.ask(f"{place} echo", run)


THREADS: list[tuple[Callable[[Clients, str, Random], None], tuple[str, ...]]] = [
    (ask_http, ("http", "https")),
    (ask_http, ("http", "https")),
    (ask_echo, ("tcp", "tls", "unix")),
    (ask_websocket, ("http", "https")),
    (ask_datagrams, ("udp",)),
]


def work(clients: Clients, seed: str, run: Callable[[Clients, str, Random], None], places: tuple[str, ...]) -> None:
    """Do the work of one thread."""
    random = Random(seed)
    while not clients.stop.is_set():
        run(clients, random.choice(places), random)
        clients.stop.wait(random.uniform(0, PAUSE))


def main() -> None:
    """Work until stdin ends."""
    parser = argparse.ArgumentParser(prog="python -m reliability.soak.blocking", description=__doc__)
    parser.add_argument("authority")
    parser.add_argument("places")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--fault", type=int, help="the number of the fault that they are, whose address they have")
    options = parser.parse_args()
    clients = Clients(options)
    threads = [
        threading.Thread(target=work, args=(clients, f"{options.seed} {number}", *arguments), daemon=True)
        for number, arguments in enumerate(THREADS)
    ]
    for thread in threads:
        thread.start()
    threading.Thread(target=_wait_for_end, args=(clients.stop,), daemon=True).start()
    while not clients.stop.wait(0.5):
        clients.report()
    end = time.monotonic() + LIMIT
    for thread in threads:
        thread.join(max(0, end - time.monotonic()))
        if thread.is_alive():
            clients.fail(thread.name, "does not end")
    clients.report(last=True)


def _wait_for_end(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


if __name__ == "__main__":
    main()
