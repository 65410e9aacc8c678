"""serve(): a server with a loop of its own, in a process of its own."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import epoll_loop

ROOT = Path(epoll_loop.__file__).parent.parent
LIMIT = 20  # seconds after which a wait has failed

PROGRAM = """
import sys
import epoll_loop

class Events(epoll_loop.Events):
    def serving(self, server):
        print(server.addresses[0][1], flush=True)
    def data(self, conn, data):
        if data == b"end":
            return b"bye", epoll_loop.Action.SHUTDOWN
        return data
    def closed(self, conn, error):
        print("closed", error, flush=True)

epoll_loop.serve(Events(), "tcp://127.0.0.1:0")
print("over", flush=True)
"""


@pytest.fixture
def program():
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", PROGRAM], env=env, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def dial(process):
    sock = socket.create_connection(("127.0.0.1", int(process.stdout.readline())), LIMIT)
    sock.sendall(b"hello")
    assert sock.recv(100) == b"hello"
    return sock


def test_shutdown(program):
    with dial(program) as sock:
        sock.sendall(b"end")
        assert sock.recv(100) == b"bye"
        assert sock.recv(100) == b""
    assert program.stdout.read() == "closed None\nover\n"
    assert program.wait(LIMIT) == 0


def test_sigterm_ends_it_in_good_order(program):
    with dial(program) as sock:
        program.send_signal(signal.SIGTERM)
        assert sock.recv(100) == b""
    assert program.stdout.read() == "closed None\nover\n"
    assert program.wait(LIMIT) == 0


def test_keyboard_interrupt_drops_all(program):
    with dial(program) as sock:
        program.send_signal(signal.SIGINT)
        assert sock.recv(100) == b""
    assert "over" not in program.stdout.read()
    assert program.wait(LIMIT) != 0


@pytest.mark.parametrize("loops", [1, 2])
async def test_not_in_a_running_loop(loops):
    with pytest.raises(RuntimeError, match="running"):
        epoll_loop.serve(epoll_loop.Events(), "tcp://127.0.0.1:0", loops=loops)


def test_the_readme_serves():
    """Its program, with addresses that are free."""
    section = re.search(r"^## Serve with callbacks$(.*?)^## ", (ROOT / "README.md").read_text(), re.M | re.S)[1]
    source = re.search(r"```python\n(.*?)```", section, re.S)[1]
    source = re.sub(r":500\d", ":0", source).replace("/tmp/echo.sock", f"/tmp/epoll_loop-{os.getpid()}.sock")
    source = source.replace("class Echo(epoll_loop.Events):\n", "class Echo(epoll_loop.Events):\n    serving = told\n")
    told = "def told(self, server):\n    print(server.addresses[0][1], flush=True)\n"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", told + source], env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            dial(process).close()
        finally:
            process.terminate()
        assert process.wait(LIMIT) == 0
