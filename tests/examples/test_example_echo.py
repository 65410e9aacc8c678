"""examples/echo.py, and what the docstrings of all examples say."""

import socket
import subprocess

import pytest
from example import EXAMPLES, LIMIT, ROOT, TCP, command, connect, docstring, environment, running

from epoll_loop.serving.addresses import parse

PROGRAMS = [path.stem for path in sorted(EXAMPLES.glob("*.py")) if "__main__" in path.read_text()]


def test_all_programs_are_known():
    assert PROGRAMS == ["aiohttp_loops", "echo", "http_server", "redis_server"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_docstring_has_the_command(name):
    assert command(name)[1:] == [f"examples/{name}.py"]


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "aiohttp_loops"])
def test_the_usual_addresses(name):
    """They are well written, and on this machine alone; the docstring's other commands use the same."""
    module = __import__(name)
    for address in map(parse, module.ADDRESSES):
        assert address.host in ("127.0.0.1", "::1", None)
        if name != "echo":
            assert str(address.port) in docstring(name)


@pytest.mark.parametrize("options", [(), ("--loops", "2")], ids=" ".join)
def test_an_echo_of_each_kind(tmp_path, options):
    path = str(tmp_path / "echo.sock")
    addresses = [TCP, "tcp://[::1]:0", f"unix://{path}", "udp://127.0.0.1:0"]
    with running("echo", *addresses, options=options) as (tcp, tcp6, unix, udp):
        assert unix == path
        for address in (tcp, tcp6):
            with connect(address) as sock:
                check_echo(sock)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(LIMIT)
            sock.connect(path)
            check_echo(sock)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(LIMIT)
            sock.sendto(b"datagram", udp)
            assert sock.recv(100) == b"datagram"


def test_a_number_of_loops_that_can_not_be():
    done = subprocess.run(
        [*command("echo"), "--loops", "0", TCP],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ValueError: loops is a number from 1 on, not 0"


def check_echo(sock):
    sock.sendall(b"hello")
    sock.shutdown(socket.SHUT_WR)
    assert b"".join(iter(lambda: sock.recv(100), b"")) == b"hello"
