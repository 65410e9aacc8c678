"""Whole messages out of a stream, however it is cut."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording import Recording

import epoll_loop
from epoll_loop import Action, delimiter, length_prefix
from epoll_loop.serving.framing import Framed

pytestmark = pytest.mark.usefixtures("no_descriptor_left")


class Open:
    """A connection, as far as framing knows."""

    def is_open(self):
        return True

    def answer(self, out):
        assert out is None


def lines(messages):
    return delimiter(b"\r\n"), [message.replace(b"\r\n", b"") for message in messages], lambda m: m + b"\r\n"


def prefixed(messages):
    return length_prefix(2, "little"), messages, lambda m: len(m).to_bytes(2, "little") + m


@given(st.sampled_from([lines, prefixed]), st.lists(st.binary(max_size=40), max_size=20), st.data())
def test_however_it_is_cut(kind, messages, data):
    split, messages, encode = kind(messages)
    stream = b"".join(map(encode, messages))
    found = []
    framed = Framed(lambda conn, message: found.append(message), split)
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        framed(Open(), stream[:size])
        stream = stream[size:]
    assert found == messages


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


@pytest.mark.parametrize("make", [lambda: delimiter(b""), lambda: length_prefix(0), lambda: length_prefix(4, "middle")])
def test_bad_arguments(make):
    with pytest.raises(ValueError):
        make()
