"""What edge-triggered epoll does with pipes, terminals and datagrams: see `test_kernel_facts.py`."""

import contextlib
import errno
import fcntl
import os
import pty
import select
import socket
import tty
from collections.abc import Callable, Iterator

import pytest
from kernel import ERR, HUP, IN, INTEREST, OUT, WAIT, fence, fill, read_all, register

IPV6_MTU = 24  # of ipv6(7)


@pytest.fixture
def local() -> Iterator[Callable[[], socket.socket]]:
    """Makes bound Unix datagram sockets, non-blocking."""
    with contextlib.ExitStack() as stack:

        def make() -> socket.socket:
            sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            sock.setblocking(False)
            sock.bind(b"")  # the kernel chooses a name
            return sock

        yield make


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends, non-blocking."""
    ends = os.pipe2(os.O_NONBLOCK)
    yield ends
    for fd in ends:
        os.close(fd)


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """(master, slave), non-blocking; the slave may be closed."""
    master, slave = pty.openpty()
    for fd in (master, slave):
        os.set_blocking(fd, False)
    yield master, slave
    os.close(master)
    try:
        os.close(slave)
    except OSError:
        pass


def has_input(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def test_k20_pipe_out_is_earned_by_a_short_write_and_comes_with_a_page_of_room(ep, pipe):
    reader, writer = pipe
    register(ep, writer)
    taken = os.write(writer, bytes(1 << 20))
    assert 0 < taken < 1 << 20
    page = os.sysconf("SC_PAGE_SIZE")
    os.read(reader, page - 1)
    assert ep.poll(0) == []
    os.read(reader, 1)
    assert ep.poll(0) == [(writer, OUT)]
    os.read(reader, page)
    assert ep.poll(0) == []


def test_k21_packets_of_a_pipe_share_one_edge_and_are_read_one_by_one(ep, pipe):
    reader, writer = pipe
    register(ep, reader)
    fcntl.fcntl(writer, fcntl.F_SETFL, os.O_DIRECT | os.O_NONBLOCK)  # the reader's flags do not show it
    os.write(writer, b"one")
    os.write(writer, b"two")
    assert ep.poll(0) == [(reader, IN)]
    assert os.read(reader, 100) == b"one"  # short, and yet there is more
    assert ep.poll(0) == []
    assert has_input(reader)
    assert os.read(reader, 100) == b"two"
    assert not has_input(reader)


def test_k22_lines_of_a_terminal_are_read_one_by_one(ep, terminal):
    master, slave = terminal
    os.write(master, b"one\ntwo\n")
    fence(slave, select.POLLIN)
    assert os.read(slave, 100) == b"one\n"  # short, and yet there is more
    assert has_input(slave)
    assert os.read(slave, 100) == b"two\n"
    assert not has_input(slave)


@pytest.mark.parametrize("direction", ["to the slave", "to the master"])
def test_k23_terminal_out_is_earned_by_a_blocked_write(ep, terminal, direction):
    writer, reader = terminal if direction == "to the slave" else reversed(terminal)
    tty.setraw(terminal[1])
    register(ep, writer)
    left = 200_000
    while left:
        try:
            left -= os.write(writer, bytes(left))
        except BlockingIOError:
            while not ep.poll(0):  # a worker of the kernel's makes room too, not only the reader
                if has_input(reader):
                    os.read(reader, 65536)


def test_k24_slave_closed_is_hup_and_then_eio_after_the_data(ep, terminal):
    master, slave = terminal
    register(ep, master)
    tty.setraw(slave)
    os.write(slave, b"last")
    os.close(slave)
    fence(master, select.POLLIN | select.POLLHUP)
    assert ep.poll(0) == [(master, IN | OUT | HUP)]
    assert os.read(master, 100) == b"last"
    with pytest.raises(OSError, match=r"Errno 5\b"):
        os.read(master, 100)


def test_k25_a_device_that_is_always_ready_is_refused(ep):
    fd = os.open("/dev/null", os.O_RDWR)
    try:
        with pytest.raises(PermissionError):
            ep.register(fd, INTEREST)
        assert has_input(fd)
    finally:
        os.close(fd)


def test_k26_a_number_is_registered_once_and_a_dup_of_it_again(ep, pipe):
    reader, writer = pipe
    register(ep, reader)
    with pytest.raises(FileExistsError):
        ep.register(reader, INTEREST)
    dup = os.dup(reader)
    try:
        register(ep, dup)
        os.write(writer, b"x")
        assert sorted(ep.poll(0)) == sorted([(reader, IN), (dup, IN)])
    finally:
        os.close(dup)


def test_k27_no_out_when_a_unix_socket_that_we_are_not_connected_to_has_room_again(ep, local):
    ours, receiver, other = local(), local(), local()
    name = receiver.getsockname()
    fill(lambda: other.sendto(b"x", name))
    register(ep, ours.fileno())
    with pytest.raises(BlockingIOError):
        ours.sendto(b"x", name)
    assert ep.poll(0) == [(ours.fileno(), OUT)]  # of the try itself, whose memory is free again
    fence(ours.fileno(), select.POLLOUT)  # it says writable, and is not
    read_all(receiver)
    assert ep.poll(0) == []
    ours.sendto(b"x", name)


def test_k27b_out_when_the_one_that_we_are_connected_to_has_room_again(ep, local):
    ours, receiver, other = local(), local(), local()
    ours.connect(receiver.getsockname())
    fill(lambda: other.sendto(b"x", receiver.getsockname()))
    register(ep, ours.fileno())
    with pytest.raises(BlockingIOError):
        ours.send(b"x")
    assert ep.poll(0) == []
    read_all(receiver)
    assert ep.poll(WAIT) == [(ours.fileno(), OUT)]


def test_k28_a_datagram_that_never_fits_is_enobufs_and_an_edge_all_the_same(ep):
    """So ENOBUFS is no EAGAIN: who waits for the edge and tries again does it for ever."""
    family = socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as ours, socket.socket(family, socket.SOCK_DGRAM) as peer:
        peer.bind(("::1", 0))
        ours.setblocking(False)
        ours.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU, 1280)  # in fragments, each in memory of its own
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        register(ep, ours.fileno())
        for _ in range(3):
            with pytest.raises(OSError, match="No buffer space") as caught:
                ours.sendto(bytes(60_000), peer.getsockname())
            assert caught.value.errno == errno.ENOBUFS
            assert ep.poll(0) == [(ours.fileno(), OUT)]


def test_k29_an_error_comes_before_the_datagrams_and_takes_none_of_them(ep):
    with socket.socket(type=socket.SOCK_DGRAM) as ours, socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        ours.bind(("127.0.0.1", 0))
        ours.connect(peer.getsockname())
        ours.setblocking(False)
        register(ep, ours.fileno())
        peer.sendto(b"first", ours.getsockname())
        peer.close()
        ours.send(b"to nobody any more")
        assert ep.poll(0) == [(ours.fileno(), IN | OUT | ERR)]
        with pytest.raises(ConnectionRefusedError):
            ours.recv(100)
        assert ours.recv(100) == b"first"
        with pytest.raises(BlockingIOError):
            ours.recv(100)
