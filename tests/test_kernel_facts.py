"""What edge-triggered epoll does, on bare `select.epoll`: the facts that the loop is built on.

Nothing of ours runs here, besides what PyPy has no name for. A failure means that this kernel behaves differently, and
that the invariant on top of the fact has to be thought over. Where silence is asserted, a fence comes first: the state
is there, seen level-triggered, and yet no event comes.
"""

import contextlib
import errno
import os
import select
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel import ERR, ET, HUP, IN, INTEREST, OUT, RDHUP, WAIT, counter, eventfd_write, fence, register


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
    fence(ours.fileno(), RDHUP)  # poll(2) has the same number for it
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
    fd = counter(0)
    try:
        register(ep, fd, IN | ET)
        for _ in range(3):
            eventfd_write(fd, 1)
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
    fds = {counter(1) for _ in range(3)}
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
