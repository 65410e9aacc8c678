"""Whole messages out of a stream, however it is cut."""

import asyncio
import functools

import pytest
import tls
from hypothesis import given
from hypothesis import strategies as st
from recording import Recording

import epoll_loop
from epoll_loop import Action, delimiter, length_prefix
from epoll_loop.serving import framing
from epoll_loop.serving.framing import Framed

pytestmark = pytest.mark.usefixtures("no_descriptor_left")


class Open:
    """A connection, as far as framing knows."""

    def is_open(self):
        return True

    def is_behind(self):
        return False

    def answer(self, out, name):
        assert (out, name) == (None, "data")


def lines(messages):
    return delimiter(b"\r\n"), [message.replace(b"\r\n", b"") for message in messages], lambda m: m + b"\r\n"


def prefixed(messages):
    return length_prefix(2, "little"), messages, lambda m: len(m).to_bytes(2, "little") + m


@given(st.sampled_from([lines, prefixed]), st.lists(st.binary(max_size=40), max_size=20), st.booleans(), st.data())
def test_however_it_is_cut(kind, messages, large, data):
    """Also where a message counts as a large one at once."""
    split, messages, encode = kind(messages)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framing, "_SMALL", 0 if large else framing._SMALL)
        cut(split, messages, encode, data)


def cut(split, messages, encode, data):
    stream = b"".join(map(encode, messages))
    found = []
    framed = Framed(lambda conn, message: found.append(message), split)
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        framed(Open(), stream[:size])
        stream = stream[size:]
    assert found == messages
    assert all(type(message) is bytes for message in found)


@pytest.mark.parametrize(
    ("split", "stream"),
    [
        (delimiter(b"\r\n", 1_000_000), bytes(1_000_000) + b"\r\n"),
        (length_prefix(4, "big", 1_000_000), (1_000_000).to_bytes(4) + bytes(1_000_000)),
    ],
    ids=["delimiter", "length"],
)
def test_a_large_message_in_small_parts(split, stream):
    """It is not looked at with each of them, and comes as soon as it is whole. So does what follows it."""
    calls, found = [], []

    @functools.wraps(split)
    def counted(data, start):
        calls.append(len(data))
        return split(data, start)

    framed = Framed(lambda conn, message: found.append(message), counted)
    stream += stream[:5000]
    for start in range(0, len(stream), 1000):
        assert len(found) == (start >= len(stream) - 5000)
        framed(Open(), stream[start : start + 1000])
    assert found == [bytes(1_000_000)]
    assert len(calls) < 20
    assert framed.unused() == stream[-5000:]
    assert framed.unused() == b""


def test_an_end_that_was_seen_elsewhere():
    """In the message before, and half of it at the end of a part."""
    found = []
    framed = Framed(lambda conn, message: found.append(message), delimiter(b"ab", 100_000))
    for part in (b"1ab" + bytes(5000), b"a", b"a", b"b2ab"):
        framed(Open(), part)
    assert found == [b"1", bytes(5000) + b"a", b"2"]


@pytest.mark.parametrize(
    ("split", "data"),
    [(delimiter(b"\n", limit=10), b"x" * 11), (length_prefix(limit=10), (11).to_bytes(4))],
    ids=["delimiter", "length"],
)
async def test_a_message_that_is_too_long(connect, split, data):
    """It closes the connection, after the answers to those before it."""
    events = Recording()
    events.framing = split
    first = b"first\n" if data[0] == ord("x") else (5).to_bytes(4) + b"first"
    async with await epoll_loop.start_serving(events, "tcp://127.0.0.1:0") as server:
        client = await connect(server.addresses[0])
        client.writer.write(first + data)
        assert await client.rest() == b"first"
        await events.until(lambda: "closed" in events.names())
    assert type(events.told[-1][1]) is ValueError


def test_one_that_is_too_long_in_small_parts():
    """It is noticed when there are as many bytes as no message has."""

    class Closing(Open):
        error = None

        def close(self, error):
            self.error = error

    conn = Closing()
    framed = Framed(lambda conn, message: None, delimiter(b"\r\n", 10_000))
    for _ in range(10_001):
        framed(conn, b"x")
        assert conn.error is None
    framed(conn, b"x")
    assert type(conn.error) is ValueError


async def test_the_longest_message(connect):
    events = Recording()
    events.framing = delimiter(b"\n", limit=10)
    async with await epoll_loop.start_serving(events, "tcp://127.0.0.1:0") as server:
        client = await connect(server.addresses[0])
        assert await client.say(b"x" * 10 + b"\n", 10) == b"x" * 10


async def test_nothing_after_close(connect):
    events = Recording()
    events.framing = delimiter(b"\n")
    events.instead["data"] = lambda conn, data: (data, Action.CLOSE)
    async with await epoll_loop.start_serving(events, "tcp://127.0.0.1:0") as server:
        client = await connect(server.addresses[0])
        client.writer.write(b"one\ntwo\nthree\n")
        assert await client.rest() == b"one"
    assert events.names().count("data") == 1


async def test_wake_is_no_message(connect):
    events = Recording()
    events.framing = delimiter(b"\n")
    events.instead["data"] = lambda conn, data: data or b"woken"
    async with await epoll_loop.start_serving(events, "tcp://127.0.0.1:0") as server:
        client = await connect(server.addresses[0])
        client.writer.write(b"half")
        await events.until(lambda: "opened" in events.names())
        await asyncio.to_thread(events.told[-1][1].wake)
        assert await client.read(5) == b"woken"
        assert await client.say(b" done\n", 9) == b"half done"


async def test_woken_is_told_apart_from_an_empty_message(connect):
    class Events(Recording):
        def woken(self, conn):
            self.note("woken")
            return b"woken"

    events = Events()
    events.framing = delimiter(b"\n")
    events.instead["data"] = lambda conn, data: b"<%b>" % data
    async with await epoll_loop.start_serving(events, "tcp://127.0.0.1:0") as server:
        client = await connect(server.addresses[0])
        assert await client.say(b"\n", 2) == b"<>"
        events.told[1][1].wake()
        assert await client.read(5) == b"woken"
    assert events.names()[2:4] == ["data", "woken"]


@pytest.mark.parametrize(
    ("make", "arguments", "error"),
    [
        (delimiter, (b"",), ValueError),
        (delimiter, ("\n",), TypeError),
        (delimiter, (b"\n", -1), ValueError),
        (delimiter, (b"\n", None), ValueError),
        (length_prefix, (0,), ValueError),
        (length_prefix, (2.5,), ValueError),
        (length_prefix, (4, "middle"), ValueError),
        (length_prefix, (4, "big", "much"), ValueError),
    ],
)
def test_bad_arguments(make, arguments, error):
    with pytest.raises(error):
        make(*arguments)


def test_one_of_somebodys_own_on_another():
    """It knows nothing of how the other one spares itself a look."""
    lines = delimiter(b"\n")
    found = []

    def texts(data, start):
        part = lines(data, start)
        return (part[0].decode(), part[1]) if isinstance(part, tuple) else part

    framed = Framed(lambda conn, message: found.append(message), texts)
    for part in (b"x" * 5000, b"y\n", b"z\n"):
        framed(Open(), part)
    assert found == ["x" * 5000 + "y", "z"]


def words(data, start):
    """A framing of somebody's own: words with a space behind them."""
    end = data.find(b" ", start)
    return None if end < 0 else (data[start:end].decode(), end + 1)


async def test_in_the_class_as_the_readme_has_it(connect):
    class Lines(Recording):
        framing = delimiter(b"\n")

    class Words(epoll_loop.Events):
        framing = words

        def data(self, conn, data):
            return data.upper().encode()

    async with (
        await epoll_loop.start_serving(Lines(), "tcp://127.0.0.1:0") as lines,
        await epoll_loop.start_serving(Words(), "tcp://127.0.0.1:0") as others,
    ):
        client = await connect(lines.addresses[0])
        assert await client.say(b"one\ntwo\n", 6) == b"onetwo"
        client = await connect(others.addresses[0])
        assert await client.say(b"one two thr", 6) == b"ONETWO"


@pytest.mark.parametrize("more", [0, 2])
async def test_one_that_does_not_advance_or_too_far(connect, reports, more):
    events = Recording()
    events.framing = lambda data, start: (b"", start + more)
    async with await epoll_loop.start_serving(events, "tcp://127.0.0.1:0") as server:
        client = await connect(server.addresses[0])
        client.writer.write(b"x")
        assert await client.rest() == b""
        await events.until(lambda: "closed" in events.names())
    assert events.told[-1] == ("closed", reports[0])
    assert str(reports[0]).startswith("the framing found a message that ends ")


@pytest.mark.parametrize("out", [b"message", (1, 2, 3), ("message", "end"), (b"message", None)], ids=repr)
async def test_one_that_returns_something_else(connect, reports, out):
    """It is reported, and ends the connection."""
    events = Recording()
    events.framing = lambda data, start: out
    async with await epoll_loop.start_serving(events, "tcp://127.0.0.1:0") as server:
        client = await connect(server.addresses[0])
        client.writer.write(b"x")
        assert await client.rest() == b""
        await events.until(lambda: "closed" in events.names())
    assert [type(exc) for exc in reports] == [TypeError]
    assert "framing" in str(reports[0])
    assert events.told[-1] == ("closed", reports[0])


@pytest.mark.parametrize("with_tls", [False, True], ids=["tcp", "tls"])
async def test_messages_wait_for_a_peer_that_does_not_read(connect, with_tls):
    """All of them come in one read, and each has a large answer."""
    events = Recording()
    events.framing = delimiter(b"\n")
    events.instead["data"] = lambda conn, data: bytes(200_000)
    context, options = (tls.server_context(), {"ssl": tls.client_context(), **tls.NAME}) if with_tls else (None, {})
    async with await epoll_loop.start_serving(events, "tcp://127.0.0.1:0", tls=context) as server:
        client = await connect(server.addresses[0], **options)
        client.writer.transport.pause_reading()
        client.writer.write(b"x\n" * 300)
        await events.until(lambda: "data" in events.names())
        for _ in range(20):
            await asyncio.sleep(0.001)
        conn = next(what[1] for what in events.told if what[0] == "opened")
        assert conn.is_behind()
        assert conn.queued() < 1_000_000
        assert events.names().count("data") < 300
        client.writer.transport.resume_reading()
        assert await client.read(300 * 200_000) == bytes(300 * 200_000)
        assert await client.say(b"y\n", 200_000) == bytes(200_000)


@pytest.mark.parametrize("how", ["upgrade", "detach"])
async def test_what_follows_the_last_message_is_not_lost(connect, how):
    received = []

    class Rest(asyncio.Protocol):
        def data_received(self, data):
            received.append(data)

    def data(conn, message):
        if how == "detach":
            return Action.DETACH
        conn.upgrade(Rest(), b"said ")
        return None

    def detached(conn, sock):
        received.append(b"said " + conn.unused())
        sock.close()

    events = Recording()
    events.framing = delimiter(b"\n")
    events.instead.update(data=data, detached=detached)
    async with await epoll_loop.start_serving(events, "tcp://127.0.0.1:0") as server:
        client = await connect(server.addresses[0])
        client.writer.write(b"go\nand the rest")
        while not received:
            await asyncio.sleep(0)
        assert received == [b"said and the rest"]
