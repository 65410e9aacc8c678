"""What is received into memory that is used again: recv() of much, and InputBuffer. Nobody's bytes may change."""

import contextvars
import ctypes
import errno
import pickle
import socket
import sys
import weakref

import pytest

from epoll_loop.core import syscalls

MUCH = 40000


@pytest.fixture
def pair():
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        peer.settimeout(10)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        yield ours, peer


def test_much_that_was_received_does_not_change(half, pair):
    ours, peer = pair
    kept, views, hashes = [], [], []
    for number in range(300):
        sent = bytes([number % 251]) * (MUCH + number)
        peer.sendall(sent)
        data = half.recv(ours, ours.fileno())
        assert data == sent
        assert data + b"!" == sent + b"!"
        if number % 50 == 20:
            kept.append((data, sent))
        elif number % 50 == 40:
            views.append((memoryview(data)[1:], sent[1:]))
        else:
            hashes.append((hash(data), sent))
        del data
        peer.send(b"little")
        assert half.recv(ours, ours.fileno()) == b"little"
    assert all(data == sent for data, sent in kept)
    assert all(view == sent for view, sent in views)
    assert all(known == hash(sent) for known, sent in hashes)


@pytest.mark.skipif(not syscalls.COUNTS_REFERENCES, reason="nothing is used again")
def test_much_is_received_into_the_same_memory(pair):
    ours, peer = pair
    places, others = set(), []
    for number in range(200):
        peer.sendall(bytes(MUCH))
        data = syscalls.recv(ours, ours.fileno())
        if number >= 100:  # there is such memory by now
            places.add(id(data))
        del data
        others.append(bytes(MUCH))  # takes the place of what was freed
    assert len(places) == 1


class Lent:
    """Keeps of each view that it is called with what a function makes of it."""

    def __init__(self, half, make):
        self.buffer = half.InputBuffer()
        self.make = make
        self.seen, self.kept = [], []

    def __call__(self, view):
        assert type(view) is memoryview
        self.seen.append(bytes(view))
        self.kept.append(self.make(view))

    def receive(self, pair, data):
        ours, peer = pair
        peer.sendall(data)
        count = self.buffer.recv(ours, ours.fileno())
        assert count == len(data)
        self.buffer.call1(contextvars.copy_context(), self, count)


def test_an_input_buffer_tells_what_the_kernel_says(half, pair):
    ours, peer = pair
    buffer = half.InputBuffer()
    assert buffer.recv(ours, ours.fileno()) == -errno.EAGAIN
    peer.close()
    assert buffer.recv(ours, ours.fileno()) == 0


SENT = [b"a", b"some more", b"x" * 5000, b"b", b"last"]


def test_views_of_an_input_buffer(half, pair):
    lent = Lent(half, len)
    for data in SENT:
        lent.receive(pair, data)
    assert lent.seen == SENT
    assert lent.kept == list(map(len, SENT))


def test_a_view_that_is_kept_is_released(half, pair):
    lent = Lent(half, lambda view: view)
    for data in SENT:
        lent.receive(pair, data)
        with pytest.raises(ValueError, match="released"):
            lent.kept[-1][0]
    assert lent.seen == SENT


@pytest.mark.parametrize(
    "make",
    [
        lambda view: view[:1],
        lambda view: view.cast("B"),
        lambda view: view.toreadonly(),
        lambda view: memoryview(view)[:],
        lambda view: (view, view[:]),
        lambda view: (view[:1], view.release())[0],
    ],
)
def test_a_part_of_a_view_that_is_kept_does_not_change(half, pair, make):
    lent = Lent(half, make)
    for data in SENT:
        lent.receive(pair, data)
    parts = [kept[1] if type(kept) is tuple else kept for kept in lent.kept]
    assert [bytes(part) for part in parts] == [data[: len(part)] for data, part in zip(SENT, parts, strict=True)]
    assert lent.seen == SENT


@pytest.mark.parametrize(
    "make",
    [
        lambda view: (ctypes.c_char * len(view)).from_buffer(view),
        pytest.param(
            pickle.PickleBuffer,
            marks=pytest.mark.skipif(sys.implementation.name == "pypy", reason="PyPy releases that too"),
        ),
    ],
)
def test_an_object_that_has_the_memory_of_a_view_keeps_it(half, pair, make):
    lent = Lent(half, make)
    for data in SENT:
        lent.receive(pair, data)
    assert list(map(bytes, lent.kept)) == SENT
    assert lent.seen == SENT


@pytest.mark.parametrize("make", [lambda view: view.release(), weakref.ref])
def test_what_else_is_done_with_a_view(half, pair, make):
    lent = Lent(half, make)
    for data in SENT:
        lent.receive(pair, data)
        view = lent.kept[-1] and lent.kept[-1]()
        if view is not None:  # its memory is collected later, with PyPy
            with pytest.raises(ValueError, match="released"):
                view[0]
    assert lent.seen == SENT


def test_a_callback_that_fails_leaves_the_input_buffer_usable(half, pair):
    def fail(view):
        raise LookupError(view)

    lent = Lent(half, fail)
    for data in SENT:
        with pytest.raises(LookupError) as caught:
            lent.receive(pair, data)
        with pytest.raises(ValueError, match="released"):
            caught.value.args[0][0]
    assert lent.seen == SENT


@pytest.mark.skipif(not syscalls.COUNTS_REFERENCES, reason="a view for each")
def test_a_view_that_nobody_keeps_is_used_again(pair):
    lent = Lent(syscalls, id)
    for data in SENT:
        lent.receive(pair, data)
    assert len(set(lent.kept)) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"bytes",
        bytearray(b"array"),
        memoryview(b"view"),
        memoryview(b"every other one" * 100)[::2],
        memoryview(b"x" * 8).cast("I", (1, 2)),
        memoryview(bytearray(range(256)) * 8)[10:1500],
        memoryview(b""),
    ],
)
def test_copies(half, data):
    copied = half.copy_of(data)
    assert type(copied) is bytes
    assert copied == bytes(data)


def test_copies_of_what_is_not_quite_an_array(half):
    class Own(bytearray):
        def __bytes__(self):
            return b"own"

    assert half.copy_of(Own(b"array")) == b"own"
    assert half.copy_of(bytearray(b"array")) == b"array"


def test_a_copy_lets_go_of_what_it_is_of(half):
    array = bytearray(b"x" * 1000)
    copied = half.copy_of(array)
    array.extend(b"only without exports")
    assert copied == b"x" * 1000
