"""Redis, an own server, with nothing written to disk."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import own_server

MISSING = "skipped: needs Redis (Debian package redis-server)"


class Server:
    """A server that runs: by TCP on 127.0.0.1 at `port`, and by a Unix socket at `path`."""

    def __init__(self, port: int, path: Path) -> None:
        self.port = port
        self.path = str(path)


@contextmanager
def server() -> Iterator[Server | None]:
    """Yield a new server, empty; None if there is no Redis on this machine."""
    binary = shutil.which("redis-server")
    if binary is None:
        yield None
        return
    with own_server.place() as place:
        path = place.folder / "socket"
        place.start(
            binary,
            *("--bind", "127.0.0.1", "--port", str(place.port), "--unixsocket", str(path)),
            *("--dir", str(place.folder), "--save", "", "--appendonly", "no"),
            ready=lambda: _answers(path),
        )
        yield Server(place.port, path)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        if sock.connect_ex(str(path)) != 0:
            return False
        sock.sendall(b"PING\r\n")
        return sock.recv(100) == b"+PONG\r\n"
