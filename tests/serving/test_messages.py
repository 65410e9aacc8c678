"""The messages between the parent and a worker process."""

import asyncio
import concurrent.futures
import errno
import socket

import pytest
from recording import LIMIT

import epoll_loop
from epoll_loop.serving.messages import Kind, Messages

pytestmark = pytest.mark.usefixtures("no_descriptor_left")


class End:
    """One end of a pair, which keeps what comes."""

    def __init__(self, sock):
        self.messages = Messages(asyncio.get_running_loop(), sock, self.on_drained)
        self.told = []
        self.drained = 0
        self.lost = 0
        self.changed = asyncio.Event()

    def on_drained(self):
        self.drained += 1

    def start(self):
        self.messages.start(self.on_message, self.on_lost)

    def on_message(self, *message):
        self.told.append(message)
        self.changed.set()

    def on_lost(self):
        self.lost += 1
        self.changed.set()

    async def until(self, condition):
        async with asyncio.timeout(LIMIT):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
async def ends():
    made = [End(sock) for sock in socket.socketpair()]
    yield made
    for end in made:
        end.messages.close()
        for *_, sock in end.told:
            if sock is not None:
                sock.close()


async def test_all_come_in_order_when_nobody_reads_for_long(ends):
    """Each socket with its own message, and the sender knows that it is behind."""
    here, there = ends
    count = 0
    while not here.messages.is_behind():
        one, other = socket.socketpair()
        with other:
            other.send(b"%d" % count)
        here.messages.send(Kind.ACCEPTED, count, sock=one)
        here.messages.send(Kind.RELEASED, count)
        count += 1
    assert not here.drained
    there.start()
    await there.until(lambda: len(there.told) == 2 * count)
    assert here.drained == 1
    assert not here.messages.is_behind()
    for number in range(count):
        kind, index, payload, sock = there.told[2 * number]
        assert (kind, index, payload) == (Kind.ACCEPTED, number, b"")
        assert sock.recv(10) == b"%d" % number
        assert there.told[2 * number + 1] == (Kind.RELEASED, number, b"", None)


async def test_a_payload_that_is_larger_than_what_the_kernel_takes(ends):
    here, there = ends
    payload = bytes(range(256)) * 10_000
    here.messages.send(Kind.FAILED, payload=payload)
    here.messages.send(Kind.READY)
    there.start()
    await there.until(lambda: len(there.told) == 2)
    assert there.told == [(Kind.FAILED, 0, payload, None), (Kind.READY, 0, b"", None)]


async def test_what_waits_at_the_end_is_sent():
    """And then the other side is told of the end, once."""
    payload = bytes(range(256)) * 4000
    one, other = socket.socketpair()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        there = pool.submit(read_in_a_loop, other)
        here = End(one)
        here.messages.send(Kind.FAILED, payload=payload)
        here.messages.finish()
        here.messages.finish()
        here.messages.send(Kind.READY)  # in vain
        told, lost = there.result(LIMIT)
    assert told == [(Kind.FAILED, 0, payload, None)]
    assert lost == 1


def read_in_a_loop(sock):
    """What comes to this end until the other one's."""

    async def read():
        end = End(sock)
        end.start()
        await end.until(lambda: end.lost)
        end.messages.send(Kind.DRAIN)  # in vain
        end.messages.close()
        return end.told, end.lost

    return epoll_loop.run(read())


async def test_too_many_sockets_under_way(ends, monkeypatch):
    """The kernel says so until some of them have arrived: it is asked again, and the order stays."""
    here, there = ends
    errors = [OSError(errno.ETOOMANYREFS, "Too many references"), BlockingIOError(), None]
    send = Messages._send

    def refuse(self, *message):
        if error := errors.pop(0) if errors else None:
            raise error
        return send(self, *message)

    monkeypatch.setattr(Messages, "_send", refuse)
    one, other = socket.socketpair()
    with other:
        here.messages.send(Kind.ACCEPTED, 1, sock=one)
        here.messages.send(Kind.ACCEPTED, 2)
        there.start()
        await there.until(lambda: len(there.told) == 2)
        assert [message[1] for message in there.told] == [1, 2]
        other.send(b"x")
        assert there.told[0][3].recv(1) == b"x"
    assert not errors
    assert here.drained == 1


async def test_what_was_not_sent_is_had_back(ends):
    """Each socket comes to the other side or back, with its number, and the order stays."""
    here, there = ends
    others = []
    while not here.messages.is_behind():
        one, other = socket.socketpair()
        others.append(other)
        here.messages.send(Kind.ACCEPTED, len(others) - 1, sock=one)
    here.messages.send(Kind.DRAIN)
    unsent = here.messages.unsent()
    assert here.messages.unsent() == []
    there.start()
    await there.until(lambda: len(there.told) + len(unsent) >= len(others))
    found = [(number, sock) for _, number, _, sock in there.told] + unsent
    assert [number for number, _ in found] == list(range(len(others)))
    for (number, sock), other in zip(found, others, strict=True):
        sock.send(b"%d" % number)
        assert other.recv(10) == b"%d" % number
    for sock in (*others, *(sock for _, sock in unsent)):
        sock.close()


async def test_a_socket_whose_message_has_begun_is_not_had_back(ends, monkeypatch):
    """The rest of the message, and what is no connection, is sent."""
    here, there = ends
    pairs = [socket.socketpair() for _ in range(2)]
    begun, waits = (sock for sock, _ in pairs)
    with monkeypatch.context() as patch:
        patch.setattr(here.messages, "_send", partly(here.messages))
        here.messages.send(Kind.ACCEPTED, 1, sock=begun)
        here.messages.send(Kind.ACCEPTED, 2, sock=waits)
        here.messages.send(Kind.DRAIN)
    assert begun.fileno() == -1
    assert here.messages.unsent() == [(2, waits)]
    there.start()
    await there.until(lambda: len(there.told) == 2)
    assert [message[:2] for message in there.told] == [(Kind.ACCEPTED, 1), (Kind.DRAIN, 0)]
    for sock in (waits, *(other for _, other in pairs)):
        sock.close()


def partly(messages):
    """The kernel takes three bytes, and then no more for now."""
    sizes = [3]

    def send(data, sock):
        if not sizes:
            raise BlockingIOError
        return messages._sock.send(data[: sizes.pop()])

    return send


@pytest.mark.parametrize("told", [False, True])
async def test_sockets_for_one_that_is_gone(ends, told):
    """They are had back, whether that is known already or not, and closed at the end."""
    here, there = ends
    there.messages.close()
    here.start()
    if told:
        await here.until(lambda: here.lost)
    for back in (True, False):
        one, other = socket.socketpair()
        with one, other:
            here.messages.send(Kind.ACCEPTED, 7, sock=one)
            if back:
                assert here.messages.unsent() == [(7, one)]
            else:
                await here.until(lambda: here.lost)
                here.messages.close()
                assert other.recv(1) == b""
    assert here.lost == 1
