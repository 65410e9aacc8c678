"""What edge-triggered epoll does, on bare `select.epoll`: the facts that the loop is built on.

Nothing of ours runs here. A failure means that this kernel behaves differently, and that the invariant on top
of the fact has to be thought over. Where silence is asserted, a fence comes first: the state is there, seen
level-triggered, and yet no event comes.
"""

import contextlib
import errno
import fcntl
import os
import pty
import select
import socket
import struct
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

IN, OUT, RDHUP, ERR, HUP, ET = (
    select.EPOLLIN,
    select.EPOLLOUT,
    select.EPOLLRDHUP,
    select.EPOLLERR,
    select.EPOLLHUP,
    select.EPOLLET,
)
INTEREST = IN | OUT | RDHUP | ET
IPV6_MTU = 24  # of ipv6(7)
WAIT = 10  # seconds, an upper bound for an event that must come


@pytest.fixture
def ep() -> Iterator[select.epoll]:
    with select.epoll() as epoll:
        yield epoll


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connected TCP pair; ours, the first, is non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
    with ours, peer:
        ours.setblocking(False)
        peer.settimeout(WAIT)
        yield ours, peer


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


def register(ep: select.epoll, fd: int, mask: int = INTEREST) -> None:
    """ADD, and take the report of the present state out of the way."""
    ep.register(fd, mask)
    ep.poll(0)


def fence(fd: int, mask: int) -> None:
    """Wait, level-triggered, until the kernel shows every bit of mask for fd."""
    poll = select.poll()
    poll.register(fd, mask)
    while mask & ~dict(poll.poll(WAIT * 1000))[fd]:
        pass


def reset(sock: socket.socket) -> None:
    """Close with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def send_until_blocked(sock: socket.socket) -> int:
    sent = 0
    try:
        while True:
            sent += sock.send(bytes(65536))
    except BlockingIOError:
        return sent


def fill(send: Callable[[], object]) -> None:
    """Send until EAGAIN."""
    with contextlib.suppress(BlockingIOError):
        while True:
            send()


def read_all(sock: socket.socket) -> None:
    """Receive until EAGAIN."""
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.recv(1)


def recv_exactly(sock: socket.socket, size: int) -> None:
    while size:
        got = len(sock.recv(min(size, 1 << 20)))
        assert got
        size -= got


def accept_queue(listener: socket.socket) -> int:
    """How many connections wait to be accepted (tcpi_unacked of a listener, tcp(7))."""
    return struct.unpack_from("I", listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)[0]


def test_k1_unconnected_socket_reports_out_and_hup(ep):
    with socket.socket() as sock:
        sock.setblocking(False)
        ep.register(sock, INTEREST)
        assert ep.poll(0) == [(sock.fileno(), OUT | HUP)]


def test_k2_add_reports_the_present_state_once(ep, pair):
    ours, _ = pair
    ep.register(ours, INTEREST)
    assert ep.poll(0) == [(ours.fileno(), OUT)]
    assert ep.poll(0) == []


def test_k3_data_edge_carries_in_and_out_and_is_not_repeated(ep, pair):
    ours, peer = pair
    register(ep, ours.fileno())
    peer.send(b"data")
    assert ep.poll(WAIT) == [(ours.fileno(), IN | OUT)]
    fence(ours.fileno(), select.POLLIN)
    assert ep.poll(0) == []


def test_k4_new_data_is_a_new_edge_beside_old_data(ep, pair):
    ours, peer = pair
    register(ep, ours.fileno())
    for _ in range(3):
        peer.send(b"data")
        assert ep.poll(WAIT) == [(ours.fileno(), IN | OUT)]
    assert ours.recv(100) == b"data" * 3


def test_k5_mod_with_the_same_mask_reports_again(ep, pair):
    ours, _ = pair
    register(ep, ours.fileno())
    assert ep.poll(0) == []
    ep.modify(ours.fileno(), INTEREST)
    assert ep.poll(0) == [(ours.fileno(), OUT)]


def test_k6_data_and_fin_share_one_edge(ep, pair):
    ours, peer = pair
    register(ep, ours.fileno())
    peer.send(b"last")
    peer.shutdown(socket.SHUT_WR)
    fence(ours.fileno(), select.POLLRDHUP)
    assert ep.poll(0) == [(ours.fileno(), IN | OUT | RDHUP)]
    assert ours.recv(100) == b"last"  # short, and yet there is more to learn:
    assert ep.poll(0) == []
    assert ours.recv(100) == b""


def test_k7_reset_by_the_peer(ep, pair):
    ours, peer = pair
    register(ep, ours.fileno())
    reset(peer)
    fence(ours.fileno(), select.POLLHUP)
    assert ep.poll(0) == [(ours.fileno(), IN | OUT | ERR | HUP | RDHUP)]


def test_k8_out_is_earned_by_a_blocked_write_and_only_once(ep, pair):
    ours, peer = pair
    register(ep, ours.fileno())
    ours.send(b"taken whole")
    recv_exactly(peer, len(b"taken whole"))
    assert ep.poll(0) == []

    recv_exactly(peer, send_until_blocked(ours))
    assert ep.poll(WAIT) == [(ours.fileno(), OUT)]

    ours.send(b"taken whole")
    recv_exactly(peer, len(b"taken whole"))
    assert ep.poll(0) == []


def test_k8b_out_is_earned_by_a_short_write(ep, pair):
    ours, peer = pair
    register(ep, ours.fileno())
    size = 64 << 20
    sent = ours.send(bytes(size))
    assert 0 < sent < size
    recv_exactly(peer, sent)
    assert ep.poll(WAIT) == [(ours.fileno(), OUT)]


@pytest.mark.parametrize("unix", [False, True])
def test_k8c_out_is_earned_by_a_sendfile_that_is_short_or_blocked(unix, ep, pair, tmp_path: Path):
    with contextlib.ExitStack() as stack:
        ours, peer = map(stack.enter_context, socket.socketpair()) if unix else pair
        ours.setblocking(False)
        file = stack.enter_context(open(tmp_path / "file", "wb+"))
        file.truncate(64 << 20)
        register(ep, ours.fileno())

        sent = os.sendfile(ours.fileno(), file.fileno(), 0, 64 << 20)  # short
        assert 0 < sent < 64 << 20
        recv_exactly(peer, sent)
        assert ep.poll(WAIT) == [(ours.fileno(), OUT)]

        sent = 0
        with pytest.raises(BlockingIOError):
            while True:
                sent += os.sendfile(ours.fileno(), file.fileno(), 0, 65536)
        recv_exactly(peer, sent)
        assert ep.poll(WAIT) == [(ours.fileno(), OUT)]


def test_k9_events_outlive_a_close_when_a_dup_lives(ep, pair):
    ours, peer = pair
    register(ep, ours.fileno())
    number = ours.fileno()
    dup = os.dup(number)
    try:
        ours.close()
        peer.send(b"data")
        assert ep.poll(WAIT) == [(number, IN | OUT)]
        with pytest.raises(OSError, match=r"Errno 9\b") as caught:
            ep.unregister(number)
        assert caught.value.errno == errno.EBADF
    finally:
        os.close(dup)


def test_k10_regular_file_is_refused(ep, tmp_path: Path):
    with (tmp_path / "file").open("w") as file, pytest.raises(PermissionError):
        ep.register(file, IN | ET)


def test_k11_listener_gives_no_edge_for_what_is_left_unaccepted(ep, listener):
    register(ep, listener.fileno(), IN | ET)
    clients = [socket.create_connection(listener.getsockname()) for _ in range(2)]
    while accept_queue(listener) < 2:
        pass
    assert ep.poll(0) == [(listener.fileno(), IN)]
    listener.accept()[0].close()
    fence(listener.fileno(), select.POLLIN)
    assert ep.poll(0) == []
    clients.append(socket.create_connection(listener.getsockname()))
    assert ep.poll(WAIT) == [(listener.fileno(), IN)]
    for client in clients:
        client.close()


def test_k12_unread_eventfd_gives_an_edge_for_each_write(ep):
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    try:
        register(ep, fd, IN | ET)
        for _ in range(3):
            os.eventfd_write(fd, 1)
            assert ep.poll(0) == [(fd, IN)]
            assert ep.poll(0) == []
    finally:
        os.close(fd)


def test_k13_unread_pipe_gives_an_edge_for_each_write_and_hup_at_the_end(ep):
    reader, writer = os.pipe()
    try:
        register(ep, reader, IN | ET)
        for _ in range(3):
            os.write(writer, b"x")
            assert ep.poll(0) == [(reader, IN)]
            assert ep.poll(0) == []
        os.close(writer)
        assert ep.poll(0) == [(reader, IN | HUP)]
    finally:
        os.close(reader)


def test_k14_pipe_writer_sees_the_reader_go(ep):
    reader, writer = os.pipe()
    try:
        register(ep, writer, OUT | ET)
        os.close(reader)
        assert ep.poll(0) == [(writer, OUT | ERR)]
    finally:
        os.close(writer)


def test_k15_half_close_is_rdhup_and_both_halves_are_hup(ep, pair):
    ours, peer = pair
    register(ep, ours.fileno())
    peer.shutdown(socket.SHUT_WR)
    assert ep.poll(WAIT) == [(ours.fileno(), IN | OUT | RDHUP)]
    ours.shutdown(socket.SHUT_WR)
    fence(ours.fileno(), select.POLLHUP)
    assert ep.poll(0) == [(ours.fileno(), IN | OUT | RDHUP | HUP)]


def test_k16_empty_mask_still_reports_err_and_hup(ep, pair):
    ours, peer = pair
    register(ep, ours.fileno(), 0)
    reset(peer)
    assert ep.poll(WAIT) == [(ours.fileno(), ERR | HUP)]


def test_k17_refused_connect(ep):
    with socket.socket() as closed, socket.socket() as sock:
        closed.bind(("127.0.0.1", 0))  # holds the number, and does not listen
        sock.setblocking(False)
        assert sock.connect_ex(closed.getsockname()) == errno.EINPROGRESS
        ep.register(sock, INTEREST)
        fence(sock.fileno(), select.POLLHUP)
        assert ep.poll(0) == [(sock.fileno(), IN | OUT | ERR | HUP | RDHUP)]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


def test_k18_small_batches_rotate(ep):
    fds = {os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(3)}
    try:
        for fd in fds:
            ep.register(fd, IN | ET)
        seen = [ep.poll(0, maxevents=1) for _ in range(4)]
        assert {fd for batch in seen[:3] for fd, _ in batch} == fds
        assert seen[3] == []
    finally:
        for fd in fds:
            os.close(fd)


def test_k19_udp_refused(ep):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        with socket.socket(type=socket.SOCK_DGRAM) as closed:
            closed.bind(("127.0.0.1", 0))
            sock.connect(closed.getsockname())
        sock.setblocking(False)
        register(ep, sock.fileno())
        sock.send(b"to nobody")
        fence(sock.fileno(), select.POLLERR)
        assert ep.poll(0) == [(sock.fileno(), OUT | ERR)]


# --- pipes and terminals


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
