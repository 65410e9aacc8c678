"""Other platforms, as far as they can be had here: this one, with what they lack taken away before the import."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import epoll_loop

HERE = Path(__file__).parent
ROOT = Path(epoll_loop.__file__).parent.parent
SEEN = "print(type(asyncio.get_running_loop()._poller).__name__, epoll_loop.COMPILED)"

# What the standard library imports has to be there: it is another one on those platforms.
TAKE_AWAY = """
import asyncio, concurrent.futures.thread, fnmatch, functools, logging, os, random, select, signal, socket, ssl
import subprocess, sys, sysconfig, tempfile, threading, time

sysconfig.get_config_vars()  # reads a file that has the platform's name

class Absent:
    def __get__(self, instance, owner):
        raise AttributeError("taken away")

def take_away(module, *patterns):
    for pattern in patterns:
        for name in fnmatch.filter(list(vars(module)), pattern):
            delattr(module, name)
"""
LINUX_ONLY = """
take_away(select, "epoll", "EPOLL*")
take_away(os, "eventfd*", "EFD_*", "pidfd_open", "pipe2", "waitid")
take_away(socket, "SOCK_NONBLOCK", "SOCK_CLOEXEC", "TCP_ULP")
sys.platform = "another"
"""
UNIX_ONLY = """
socket.socketpair = getattr(socket, "_fallback_socketpair", functools.partial(socket.socketpair, socket.AF_UNIX))
take_away(select, "poll", "POLL*")
take_away(os, "O_NONBLOCK", "O_CLOEXEC", "W*", "*fork*", "*et_blocking", "sendfile", "*readv", "*writev", "waitpid")
take_away(socket, "AF_UNIX", "MSG_DONTWAIT", "MSG_NOSIGNAL", "SO_REUSEPORT")
take_away(signal, "siginterrupt", "SIGCHLD", "SIGKILL", "SIGHUP", "pthread_*", "*itimer")
take_away(time, "clock_gettime", "CLOCK_MONOTONIC")
socket.socket.sendmsg = Absent()
for name in "fcntl", "resource", "termios", "tty", "pty", "pwd", "grp", "_posixsubprocess":
    sys.modules[name] = None
"""

SOCKETS = """
import epoll_loop

async def echo(reader, writer):
    writer.writelines([await reader.readexactly(5), b" and ", b"more"])
    await writer.drain()
    writer.close()

class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport
        self.received = asyncio.get_running_loop().create_future()
    def datagram_received(self, data, address):
        self.received.set_result(data)

async def refused():
    try:
        await asyncio.open_connection("127.0.0.1", 1)
    except ConnectionRefusedError:
        return "refused"

async def sockets():
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    host = server.sockets[0].getsockname()
    for _ in range(3):
        reader, writer = await asyncio.open_connection(*host)
        writer.write(b"hello")
        assert await reader.read() == b"hello and more"
        writer.close()
        await writer.wait_closed()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, host)
        await loop.sock_sendall(sock, b"again")
        assert await loop.sock_recv(sock, 100) == b"again and more"
    server.close()
    await server.wait_closed()
    assert await refused() == "refused"
    one, protocol = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    other, _ = await loop.create_datagram_endpoint(Datagrams, remote_addr=one.get_extra_info("sockname"))
    other.sendto(b"datagram")
    assert await protocol.received == b"datagram"
    one.close()
    other.close()
    assert await asyncio.to_thread(int, "7") == 7
    await asyncio.sleep(0.001)
    done = loop.create_future()
    threading.Thread(target=loop.call_soon_threadsafe, args=(done.set_result, "woken")).start()
    assert await done == "woken"
"""

UNIX = """
async def unix():
    await sockets()
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as folder:
        server = await asyncio.start_unix_server(echo, f"{folder}/socket")
        reader, writer = await asyncio.open_unix_connection(f"{folder}/socket")
        writer.write(b"hello")
        assert await reader.read() == b"hello and more"
        writer.close()
        server.close()
    process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert await process.communicate(b"through a pipe") == (b"through a pipe", None)
    assert process.returncode == 0
    arrived = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, arrived.set)
    signal.raise_signal(signal.SIGUSR1)
    await arrived.wait()
    SEEN

epoll_loop.run(unix())
"""

LACKING = """
async def lacking():
    await sockets()
    loop = asyncio.get_running_loop()
    for what, call in {
        "Unix sockets": lambda: asyncio.start_unix_server(echo, "name"),
        " Unix sockets": lambda: asyncio.open_unix_connection("name"),
        "pipes": lambda: loop.connect_read_pipe(asyncio.Protocol, sys.stdin),
        " pipes": lambda: loop.connect_write_pipe(asyncio.Protocol, sys.stdout),
        "child processes": lambda: asyncio.create_subprocess_exec("cat"),
        " child processes": lambda: asyncio.create_subprocess_shell("cat"),
    }.items():
        try:
            await call()
        except NotImplementedError as exc:
            assert str(exc).startswith(f"this platform has no {what.strip()}"), exc
        else:
            raise AssertionError(what)
    try:
        loop.add_signal_handler(signal.SIGINT, print)
    except NotImplementedError as exc:
        assert str(exc).startswith("this platform has no signals"), exc
    SEEN

epoll_loop.run(lacking())
"""


PORTABLE = """
import setup
from setuptools import Extension

flags = ["-O0", "-DEPL_PORTABLE"]
syscalls = Extension("epoll_loop.core.syscalls", ["epoll_loop/core/syscalls.pyx"], extra_compile_args=flags)
arguments = ["--quiet", "build_ext", "--inplace", "--force"]
setup.setup(name="portable", ext_modules=[syscalls], cmdclass={"build_ext": setup.BuildExt}, script_args=arguments)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this build. Of the compiled one, with the C that other systems get: that of syscalls.pyx."""
    if not epoll_loop.COMPILED:
        return ROOT
    if not (ROOT / "setup.py").exists():
        pytest.skip("not a source tree")
    folder = tmp_path_factory.mktemp("portable")
    shutil.copytree(ROOT / "epoll_loop", folder / "epoll_loop", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.py", folder)
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    env["EPOLL_LOOP_REQUIRE_EXT"] = "1"
    done = subprocess.run([sys.executable, "-c", PORTABLE], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def run(*parts: str, root: Path = ROOT, **environment: str) -> str:
    env = {key: value for key, value in os.environ.items() if not key.startswith("EPOLL_LOOP_")}
    env["PYTHONPATH"] = os.pathsep.join([str(root), str(HERE)])
    program = "\n".join(parts).replace("SEEN", SEEN)
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=root, env=env | environment, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


BUILD = {} if epoll_loop.COMPILED else {"EPOLL_LOOP_PURE": "1"}


def test_a_unix_with_kqueue(root):
    """Nothing that only Linux has is needed: macOS and the BSDs have none of it."""
    double = "import kqueue_double; kqueue_double.install()"
    assert run(TAKE_AWAY, double, LINUX_ONLY, SOCKETS, UNIX, root=root, **BUILD) == f"Kqueue {epoll_loop.COMPILED}"


def test_a_unix_with_neither(root):
    """Solaris, say."""
    assert run(TAKE_AWAY, LINUX_ONLY, SOCKETS, UNIX, root=root, **BUILD) == f"Level {epoll_loop.COMPILED}"


@pytest.mark.skipif(not epoll_loop.COMPILED, reason="of the compiled build")
def test_such_a_build_has_no_epoll(root):
    """It is what other systems get, and not what this one has."""
    program = "import epoll_loop.core.syscalls as s; s.EpollSet().wait(0)"
    with pytest.raises(AssertionError, match="Function not implemented"):
        run(program, root=root)


def test_no_unix():
    """Windows, say: the pure build, on select(). What is missing is said in one sentence."""
    assert run(TAKE_AWAY, LINUX_ONLY, UNIX_ONLY, SOCKETS, LACKING, EPOLL_LOOP_PURE="1") == "Level False"


@pytest.mark.parametrize("name", ["epoll", "poll", "kqueue"])
def test_what_is_taken_away_is_away(name):
    """The tests above would show nothing otherwise."""
    assert run(TAKE_AWAY, LINUX_ONLY, UNIX_ONLY, f"print(hasattr(select, {name!r}))") == "False"
