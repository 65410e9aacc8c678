"""Examples, started with the command that is in their docstring; and their events without a server."""

import ast
import contextlib
import itertools
import os
import select
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from interpreter import PATIENCE

import epoll_loop

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"
LIMIT = 20 * PATIENCE  # seconds after which a wait has failed
TCP = "tcp://127.0.0.1:0"

if not EXAMPLES.is_dir():
    pytest.skip("no examples here, but in the source tree", allow_module_level=True)
sys.path.append(str(EXAMPLES))


def docstring(name: str) -> str:
    return ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text())) or ""


def command(name: str) -> list[str]:
    """The one command in the docstring of an example."""
    (line,) = [line for line in docstring(name).splitlines() if line.startswith("    ")]
    program, *arguments = shlex.split(line)
    assert program == "python"
    return [sys.executable, *arguments]


def environment() -> dict[str, str]:
    """The package that is tested, whatever is installed."""
    return {**os.environ, "PYTHONPATH": str(Path(epoll_loop.__file__).parent.parent)}


@contextlib.contextmanager
def running(name: str, *addresses: str, options: Sequence[str] = ()) -> Iterator[list[Any]]:
    """Have a server run on these addresses; have those that it prints. It ends by SIGTERM, without a complaint."""
    with tempfile.TemporaryFile() as complaints:
        child = subprocess.Popen(
            [*command(name), *options, *addresses],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=complaints,
        )
        try:
            said = said_by(child, lambda said: said.count(b"\n") == len(addresses))
            yield [address_of(line) for line in said.decode().splitlines()]
            child.terminate()
            assert child.wait(LIMIT) == 0
        finally:
            child.kill()
            child.communicate()
            complaints.seek(0)
            complaint = complaints.read().decode()
        assert complaint == ""


def said_by(child: subprocess.Popen[bytes], enough: Callable[[bytes], bool]) -> bytes:
    """What it prints until that is enough."""
    assert child.stdout is not None
    said = b""
    deadline = time.monotonic() + LIMIT
    while not enough(said):
        assert select.select([child.stdout], [], [], max(0, deadline - time.monotonic()))[0], f"no more than {said!r}"
        more = os.read(child.stdout.fileno(), 4096)
        assert more, f"it ended after {said!r}"
        said += more
    return said


def address_of(line: str) -> Any:
    address = line.removeprefix("listening on ")
    assert address != line
    return ast.literal_eval(address) if address.startswith("(") else address


def connect(address: Any) -> socket.socket:
    return socket.create_connection(address[:2], timeout=LIMIT)


def talk(address: Any, data: bytes, cut: int = 0) -> bytes:
    """Send bytes, `cut` of them at a time, and return all that comes until the server closes."""
    with connect(address) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), cut or len(data)):
            sock.sendall(data[start : start + (cut or len(data))])
        return b"".join(iter(lambda: sock.recv(65536), b""))


class Conn:
    """What the examples use of a connection."""

    def __init__(self) -> None:
        self.context: Any = None
        self.said = b""
        self.ended = False

    def write(self, data: bytes) -> None:
        assert not self.ended
        self.said += data

    def write_eof(self) -> None:
        self.ended = True


def answers(events: Any, *pieces: bytes) -> tuple[bytes, bool]:
    """What events answer to a stream that comes in pieces, and whether that is the last of it."""
    conn: Any = Conn()
    events.opened(conn)
    for piece in pieces:
        out = events.data(conn, piece)
        if isinstance(out, tuple):
            assert out[1] is epoll_loop.Action.CLOSE
            conn.write(out[0])
            return conn.said, True
        if out:
            conn.write(out)
    return conn.said, conn.ended


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The pieces of a stream; no piece is empty, as none is that comes out of a socket."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(ends)]


# Redis


def needs(program: str) -> pytest.MarkDecorator:
    """Skip a test where one of Redis' programs is not installed."""
    return pytest.mark.skipif(not shutil.which(program), reason=f"{program} is not installed")


def encode(*words: bytes) -> bytes:
    """A command, as client libraries send it."""
    return b"*%d\r\n%b" % (len(words), b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))
