"""The one pair that is written twice: both halves give the same answers."""

import contextlib
import contextvars
import errno
import os
import select
import socket
import subprocess
import sys
import threading

import pytest
from halves import pure_half

from epoll_loop.core import syscalls


@pytest.fixture
def pair():
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        peer.settimeout(10)
        yield ours, peer


def test_both_halves_have_the_same_names():
    missing = [name for name in pure_half().__all__ if not hasattr(syscalls, name)]
    assert missing == []


def test_recv(half, pair):
    ours, peer = pair
    assert half.recv(ours, ours.fileno()) == -errno.EAGAIN
    peer.send(b"some data")
    assert half.recv(ours, ours.fileno()) == b"some data"
    peer.close()
    assert half.recv(ours, ours.fileno()) == b""


def test_recv_is_bounded(half, pair):
    ours, peer = pair
    peer.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    total = 0
    with pytest.raises(BlockingIOError):
        while True:
            total += peer.send(bytes(65536))
    sizes = []
    while type(data := half.recv(ours, ours.fileno())) is bytes:
        sizes.append(len(data))
    assert data == -errno.EAGAIN
    assert sum(sizes) == total
    assert max(sizes) <= half.RECV_SIZE


def test_what_recv_has_returned_does_not_change(half, pair):
    """Memory may be used again, as long as nobody notices: who keeps it, knows its hash or has a view of it."""
    ours, peer = pair
    kept, views, hashes = [], [], []
    for number in range(500):
        sent = bytes([number % 256]) * (600 + number % 40)
        peer.send(sent)
        data = half.recv(ours, ours.fileno())
        assert data == sent
        assert hash(data) == hash(sent)
        assert {sent: number}[data] == number
        if number % 3 == 0:
            kept.append((data, sent))
        elif number % 3 == 1:
            views.append((memoryview(data)[1:], sent[1:]))
        else:
            hashes.append((hash(data), sent))
        del data
    assert all(data == sent for data, sent in kept)
    assert all(view == sent for view, sent in views)
    assert all(known == hash(sent) for known, sent in hashes)


def test_recv_of_a_broken_connection_is_its_errno(half):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as ours:
        ours.connect(server.getsockname())
        peer, _ = server.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        ours.setblocking(False)
        assert half.recv(ours, ours.fileno()) == -errno.ECONNRESET


def test_recv_into(half, pair):
    ours, peer = pair
    buffer = bytearray(b"........")
    assert half.recv_into(ours, ours.fileno(), buffer) == -errno.EAGAIN
    peer.send(b"0123456789")
    assert half.recv_into(ours, ours.fileno(), memoryview(buffer)[2:6]) == 4
    assert buffer == b"..0123.."
    assert half.recv_into(ours, ours.fileno(), buffer) == 6
    assert buffer == b"456789.."
    peer.close()
    assert half.recv_into(ours, ours.fileno(), buffer) == 0


def test_recv_into_lets_go_of_the_buffer(half, pair):
    ours, peer = pair
    buffer = bytearray(8)
    half.recv_into(ours, ours.fileno(), buffer)
    peer.send(b"x")
    half.recv_into(ours, ours.fileno(), buffer)
    buffer.extend(b"only without exports")


def test_recv_into_wants_a_writable_buffer(half, pair):
    ours, _ = pair
    with pytest.raises((TypeError, BufferError)):
        half.recv_into(ours, ours.fileno(), b"read only")


@pytest.mark.parametrize("offset", [0, 2])
def test_send(half, pair, offset):
    ours, peer = pair
    data = b"some data"
    assert half.send(ours, ours.fileno(), data, offset) == len(data) - offset
    assert peer.recv(100) == data[offset:]


@pytest.mark.parametrize("rest", [[b"two"], [b"two", b"", b"three"]])
@pytest.mark.parametrize("offset", [0, 2])
def test_sendmsg(half, pair, offset, rest):
    ours, peer = pair
    expected = b"".join([b"one"[offset:], *rest])
    assert half.sendmsg(ours, ours.fileno(), b"one", offset, rest) == len(expected)
    assert peer.recv(100) == expected


def test_sendmsg_takes_no_more_than_the_kernel(half, pair):
    ours, peer = pair
    chunks = [b"%04d" % number for number in range(3000)]
    sent = half.sendmsg(ours, ours.fileno(), chunks[0], 0, chunks[1:])
    assert 0 < sent <= 4 * len(chunks)
    assert peer.recv(100_000) == b"".join(chunks)[:sent]


def test_sends_are_short_and_then_blocked(half, pair):
    ours, _ = pair
    data = bytes(16 << 20)
    sent = half.send(ours, ours.fileno(), data, 0)
    assert 0 < sent < len(data)
    assert half.send(ours, ours.fileno(), data, sent) == -errno.EAGAIN
    assert half.sendmsg(ours, ours.fileno(), data, sent, [data]) == -errno.EAGAIN


def test_sends_to_nobody_are_epipe_and_no_signal(half, pair):
    ours, peer = pair
    peer.close()
    assert half.send(ours, ours.fileno(), b"one", 0) == -errno.EPIPE
    assert half.sendmsg(ours, ours.fileno(), b"one", 0, [b"two"]) == -errno.EPIPE


@pytest.fixture
def pipe():
    reader, writer = os.pipe2(os.O_NONBLOCK)
    with open(reader, "rb", 0) as reading, open(writer, "wb", 0) as writing:
        yield reading, writing


def test_read(half, pipe):
    reader, writer = pipe
    assert half.read(reader.fileno()) == -errno.EAGAIN
    writer.write(b"some data")
    assert half.read(reader.fileno()) == b"some data"
    writer.close()
    assert half.read(reader.fileno()) == b""
    assert half.read(-1) == -errno.EBADF


def test_has_room(half, pair):
    ours, _ = pair
    assert half.has_room(ours.fileno())
    with contextlib.suppress(BlockingIOError):
        while True:
            ours.send(bytes(65536))
    assert not half.has_room(ours.fileno())


def test_has_input(half, pipe):
    reader, writer = pipe
    assert not half.has_input(reader.fileno())
    writer.write(b"x")
    assert half.has_input(reader.fileno())
    half.read(reader.fileno())
    assert not half.has_input(reader.fileno())
    writer.close()
    assert half.has_input(reader.fileno())  # the end


@pytest.mark.parametrize("offset", [0, 2])
def test_write(half, pipe, offset):
    reader, writer = pipe
    data = b"some data"
    assert half.write(writer.fileno(), data, offset) == len(data) - offset
    assert reader.read(100) == data[offset:]


@pytest.mark.parametrize("rest", [[b"two"], [b"two", b"", b"three"]])
@pytest.mark.parametrize("offset", [0, 2])
def test_writev(half, pipe, offset, rest):
    reader, writer = pipe
    expected = b"".join([b"one"[offset:], *rest])
    assert half.writev(writer.fileno(), b"one", offset, rest) == len(expected)
    assert reader.read(100) == expected


def test_writev_takes_no_more_than_the_kernel(half, pipe):
    reader, writer = pipe
    chunks = [b"%04d" % number for number in range(3000)]
    written = half.writev(writer.fileno(), chunks[0], 0, chunks[1:])
    assert 0 < written <= 4 * len(chunks)
    assert reader.read(100_000) == b"".join(chunks)[:written]


def test_writes_are_short_and_then_blocked(half, pipe):
    _, writer = pipe
    data = bytes(1 << 20)
    written = half.write(writer.fileno(), data, 0)
    assert 0 < written < len(data)
    assert half.write(writer.fileno(), data, written) == -errno.EAGAIN
    assert half.writev(writer.fileno(), data, written, [data]) == -errno.EAGAIN


def test_writes_to_nobody_are_epipe(half, pipe):
    reader, writer = pipe
    reader.close()
    assert half.write(writer.fileno(), b"one", 0) == -errno.EPIPE
    assert half.writev(writer.fileno(), b"one", 0, [b"two"]) == -errno.EPIPE


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_UNIX"])
def test_accept(half, family, tmp_path):
    address = {"AF_INET": ("127.0.0.1", 0), "AF_INET6": ("::1", 0), "AF_UNIX": str(tmp_path / "s")}[family]
    kind = getattr(socket, family)
    with socket.socket(kind) as server, socket.socket(kind) as client:
        server.bind(address)
        server.listen()
        server.setblocking(False)
        assert half.accept(server, server.fileno()) == -errno.EAGAIN
        client.connect(server.getsockname())
        sock, fd, peer = half.accept(server, server.fileno())
        if sock is None:
            sock = half.socket_of(fd, peer)
        with sock:
            assert sock.fileno() == fd
            assert (sock.family, sock.type) == (client.family, client.type)
            assert not os.get_blocking(fd)
            assert not os.get_inheritable(fd)
            assert half.address(peer) == client.getsockname()
            client.send(b"hello")
            assert select.select([sock], [], [], 10)[0] == [sock]
            assert half.recv(sock, fd) == b"hello"


def test_close(half):
    first, second = socket.socketpair()
    half.close(first, first.fileno())
    assert first.fileno() == -1
    fd = second.detach()
    half.close(None, fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_calls_run_in_their_context(half):
    var = contextvars.ContextVar("var", default=0)
    context = contextvars.copy_context()

    def callback(*args):
        var.set(var.get() + 1)
        return args, var.get()

    assert half.call(context, callback, (1, 2, 3)) == ((1, 2, 3), 1)
    assert half.call0(context, callback) == ((), 2)
    assert half.call1(context, callback, 1) == ((1,), 3)
    assert var.get() == 0
    assert context[var] == 3


@pytest.mark.parametrize("name", ["call", "call0", "call1"])
def test_a_failed_call_leaves_its_context(half, name):
    var = contextvars.ContextVar("var", default="outside")
    context = contextvars.copy_context()
    context.run(var.set, "inside")

    def fail(*args):
        raise LookupError

    arguments = {"call": ((),), "call0": (), "call1": (1,)}[name]
    for _ in range(2):  # a context that is still entered could not be entered again
        with pytest.raises(LookupError):
            getattr(half, name)(context, fail, *arguments)
        assert var.get() == "outside"


def test_copy_context_copies(half):
    var = contextvars.ContextVar("var", default="unset")
    token = var.set("now")
    copied = half.copy_context()
    var.reset(token)
    assert copied[var] == "now"


def test_monotonic_does_not_go_back(half):
    seen = [half.monotonic() for _ in range(1000)]
    assert seen == sorted(seen)


def events_of(poll_set, count):
    """What the last wait() found, which compiled is not for Python to see."""
    return poll_set.events[:count] if hasattr(poll_set, "events") else None


def test_epoll_set(half):
    reader, writer = os.pipe()
    poll_set = half.EpollSet()
    try:
        poll_set.add(reader, select.EPOLLIN)
        with pytest.raises(FileExistsError):
            poll_set.add(reader, select.EPOLLIN)
        assert poll_set.wait(0) == 0
        assert poll_set.wait(0.0005) == 0
        os.write(writer, b"x")
        assert poll_set.wait(-1) == 1
        assert events_of(poll_set, 1) in (None, [(reader, select.EPOLLIN)])
        poll_set.modify(reader, 0)
        assert poll_set.wait(0) == 0
        poll_set.remove(reader)
        with pytest.raises(FileNotFoundError):
            poll_set.remove(reader)
        with pytest.raises(FileNotFoundError):
            poll_set.modify(reader, 0)
    finally:
        poll_set.close()
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("timeout", [-1, 30.0, 0.09])
def test_waiting_lets_other_threads_run(half, timeout):
    """Who holds the interpreter while it sleeps is never woken by another thread."""
    reader, writer = os.pipe()
    poll_set = half.EpollSet()
    thread = threading.Thread(target=os.write, args=(writer, b"x"))
    try:
        poll_set.add(reader, select.EPOLLIN)
        thread.start()
        while not poll_set.wait(timeout):
            assert timeout == 0.09  # a longer one does not end without an event
        thread.join()
    finally:
        poll_set.close()
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("timeout", [0.0002, 0.01, 0.15])
def test_wait_is_not_early(half, timeout):
    poll_set = half.EpollSet()
    try:
        started = half.monotonic()
        assert poll_set.wait(timeout) == 0
        assert half.monotonic() - started >= timeout
    finally:
        poll_set.close()


SANDBOX = """
import ctypes, errno, sys
import epoll_loop

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, FILTER = 22, 38, 2
EPOLL_PWAIT2 = 441
RETURN, ERRNO, ALLOW = 0x06, 0x00050000, 0x7FFF0000


class Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint)]


class Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.POINTER(Instruction))]


program = (Instruction * 4)(
    Instruction(0x20, 0, 0, 0),  # the number of the system call
    Instruction(0x15, 0, 1, EPOLL_PWAIT2),
    Instruction(RETURN, 0, 0, ERRNO | errno.EPERM),
    Instruction(RETURN, 0, 0, ALLOW),
)
prctl = ctypes.CDLL(None).prctl
if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(
    PR_SET_SECCOMP, FILTER, ctypes.byref(Program(4, program)), 0, 0
):
    sys.exit("no filters here")
loop = epoll_loop.new_event_loop()
loop.call_later(0.0015, loop.stop)
loop.run_forever()
loop.close()
print("slept")
"""


def test_a_sandbox_that_says_eperm_of_what_it_does_not_know():
    done = subprocess.run([sys.executable, "-c", SANDBOX], capture_output=True, text=True, timeout=30, check=False)
    if "no filters here" in done.stderr:
        pytest.skip("no seccomp filters here")
    assert done.stdout.split() == ["slept"], done.stderr
