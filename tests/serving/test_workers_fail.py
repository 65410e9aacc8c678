"""serve() on many loops that can not begin: what it says, and that nothing is left."""

import multiprocessing
import os
import re
import socket
import ssl
import subprocess
import sys

import garbage
import pytest
from many import ROOT, TCP, Program
from recording import LIMIT
from resources import limited, open_fds

import epoll_loop
from epoll_loop.serving.run import _has_gil, _serve_many

pytestmark = [
    pytest.mark.usefixtures("tracker", "no_descriptor_left"),
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="they are watched by pidfd_open()"),
]

with_gil = pytest.mark.skipif(not _has_gil(), reason="serve() has no processes on this Python")
NOWHERE = "unix:///nonexistent/folder/socket"
BALANCES = ["random", "round-robin", "least-connections"]


@pytest.mark.parametrize("balance", ["random", "round-robin"])
@pytest.mark.parametrize(("start", "text"), [("raise", "ZeroDivisionError: in serving()"), ("exit", "exit code 3")])
def test_workers_that_can_not_start(tmp_path, start, text, balance):
    path = tmp_path / "socket"
    with Program(tmp_path, TCP, f"unix://{path}", "udp://127.0.0.1:0", balance=balance, start=start) as program:
        line = program.line()
        assert text in line.pop("over")
        assert line == {"descriptors": 0, "children": 0}
        assert program.process.wait(LIMIT) == 0
        assert "the next one begins" not in program.log()
        assert not path.exists()


class Unpicklable(epoll_loop.Events):
    def __init__(self):
        self.what = lambda: None


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"loops": 0}, ValueError, "loops is a number from 1 on, not 0"),
        ({"loops": -1}, ValueError, "not -1"),
        ({"loops": True}, ValueError, "not True"),
        ({"loops": "2"}, ValueError, "not '2'"),
        ({"loops": 2, "balance": "fair"}, ValueError, "balance is one of random, .*, not 'fair'"),
        ({"loops": 1, "balance": "fair"}, ValueError, "balance is one of random, .*, not 'fair'"),
        ({"loops": 2, "addresses": []}, ValueError, "no address to serve"),
        ({"loops": 2, "addresses": [TCP, "http://127.0.0.1:1"]}, ValueError, "begins with none of"),
        ({"loops": 2, "addresses": [TCP, NOWHERE]}, OSError, "No such file"),
        ({"loops": 2, "unknown": 1}, TypeError, "unknown"),
        ({"loops": 2, "idle_timeout": 0}, ValueError, "idle_timeout is .*, not 0"),
        ({"loops": 2, "write_timeout": -1}, ValueError, "write_timeout is .*, not -1"),
        ({"loops": 2, "shutdown_timeout": -1}, ValueError, "shutdown_timeout is .*, not -1"),
        ({"loops": 2, "backlog": "x"}, TypeError, "integer"),
        ({"loops": 2, "events": epoll_loop.Events}, TypeError, "events is an object"),
    ],
)
def test_bad_arguments(options, error, text):
    """Before anything is bound: that would be an error of its own."""
    options = {"events": epoll_loop.Events(), "addresses": [NOWHERE], **options}
    with pytest.raises(error, match=text):
        epoll_loop.serve(options.pop("events"), *options.pop("addresses"), **options)


@with_gil
@pytest.mark.parametrize(
    ("events", "tls", "text"),
    [
        (Unpicklable(), None, "is pickled, and .*Unpicklable.* can not be"),
        (epoll_loop.Events(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "tls is a function that returns one"),
    ],
    ids=["events", "tls"],
)
def test_what_other_processes_can_not_have(events, tls, text):
    """Nor is anything bound before that is known."""
    with pytest.raises(TypeError, match=text):
        epoll_loop.serve(events, NOWHERE, loops=2, tls=tls)


@pytest.mark.parametrize("balance", ["random", "round-robin"])
@pytest.mark.parametrize("kind", ["unix", "tcp", "udp"])
def test_an_address_that_can_not_be_had(tmp_path, kind, balance):
    """The file of the one before it is removed."""
    busy = tmp_path / "busy"
    busy.write_text("not a socket")
    address = f"unix://{busy}" if kind == "unix" else f"{kind}://192.0.2.1:0"  # of no machine at all
    path = tmp_path / "socket"
    with pytest.raises(OSError, match=r"in use|could not bind|annot assign") as caught:
        epoll_loop.serve(epoll_loop.Events(), f"unix://{path}", TCP, address, loops=2, balance=balance)
    assert caught.value.__notes__ == [f"{address} can not be served"]
    assert not path.exists()
    assert busy.read_text() == "not a socket"


@pytest.mark.parametrize("balance", BALANCES)
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_busy_port(balance, kind):
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        scheme = "tcp" if kind == socket.SOCK_STREAM else "udp"
        with pytest.raises(OSError, match="in use"):
            epoll_loop.serve(
                epoll_loop.Events(), f"{scheme}://127.0.0.1:{sock.getsockname()[1]}", loops=2, balance=balance
            )


@pytest.mark.parametrize("balance", ["random", "round-robin"])
def test_too_few_descriptors(tmp_path, balance):
    """Wherever they run out, what was opened is closed, and what has begun ends."""
    path = tmp_path / "socket"
    addresses = TCP, f"unix://{path}", "udp://127.0.0.1:0"
    for more in range(8, 20, 2):
        before = open_fds()
        with limited(more), pytest.raises(OSError, match="Too many open files"):
            _serve_many(epoll_loop.Events(), addresses, 2, balance, {}, threads=False)
        garbage.collect()  # pipes of multiprocessing are held by the exception, and that by the frames of asyncio
        assert open_fds() == before
        assert multiprocessing.active_children() == []
        assert not path.exists()


SERVES = """
import epoll_loop
class Mine(epoll_loop.Events):
    pass
epoll_loop.serve(Mine(), "tcp://127.0.0.1:0", loops=2)
"""


def run(*command):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=LIMIT, env=env)


@with_gil
def test_events_that_are_nowhere_to_be_imported():
    done = run("-c", SERVES)
    assert done.returncode == 1
    assert "TypeError: what many processes serve is imported by each of them: " in done.stderr.splitlines()[-1]


@with_gil
def test_a_program_that_serves_when_it_is_imported(tmp_path):
    """Without `if __name__ == "__main__"`: multiprocessing says so, and it ends."""
    file = tmp_path / "program.py"
    file.write_text(SERVES)
    done = run(file)
    assert done.returncode == 1
    assert "if __name__ == '__main__':" in done.stderr
    hint = 'a program that calls serve\\(\\) needs `if __name__ == "__main__":`'
    assert re.search(rf"RuntimeError: worker [01] did not serve: .*; {hint}\n$", done.stderr)


def test_one_loop_has_no_need_of_multiprocessing():
    program = """
import sys, epoll_loop
class Once(epoll_loop.Events):
    def tick(self):
        return 0, epoll_loop.Action.SHUTDOWN
epoll_loop.serve(Once(), "tcp://127.0.0.1:0")
print("multiprocessing" in sys.modules)
"""
    done = run("-c", program)
    assert (done.stdout, done.stderr) == ("False\n", "")
