"""What callbacks return: what is done with it, and what becomes of one that returns something else, or raises."""

import asyncio
import socket

import pytest
from recording import LIMIT, Recording

import epoll_loop
from epoll_loop import Action

pytestmark = pytest.mark.usefixtures("no_descriptor_left")
TCP = "tcp://127.0.0.1:0"
WRONG = [1, "text", (b"x", 1), (b"x", Action.NONE, 3), (1, Action.CLOSE), [b"x"]]


async def until(condition):
    async with asyncio.timeout(LIMIT):
        while not condition():
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("out", "answer", "ends"),
    [
        (None, b"", False),
        (b"", b"", False),
        (b"bytes", b"bytes", False),
        (bytearray(b"bytearray"), b"bytearray", False),
        (memoryview(b"view"), b"view", False),
        (Action.NONE, b"", False),
        ((b"both", Action.NONE), b"both", False),
        ((b"both", Action.CLOSE), b"both", True),
        ((None, Action.CLOSE), b"", True),
        (Action.CLOSE, b"", True),
    ],
)
@pytest.mark.parametrize("callback", ["opened", "data"])
async def test_what_a_callback_may_return(connect, callback, out, answer, ends):
    events = Recording()
    events.instead[callback] = lambda conn, *data: out
    if callback == "opened":
        events.instead["data"] = lambda conn, data: (b"after", Action.CLOSE)
    async with await epoll_loop.start_serving(events, TCP) as server:
        client = await connect(server.addresses[0])
        if not (ends and callback == "opened"):  # what is not read when it closes is a reset
            client.writer.write(b"go")
        if not ends and callback == "opened":
            answer += b"after"
        elif not ends:
            assert await client.read(len(answer)) == answer
            answer = b""
            client.writer.write_eof()
        assert await client.rest() == answer
        await events.until(lambda: "closed" in events.names())
    assert events.told[-1] == ("closed", None)


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
@pytest.mark.parametrize("callback", ["opened", "data"])
async def test_what_it_may_not_return(connect, reports, callback, wrong):
    """That connection ends, it is reported, and the others are served."""
    events = Recording()
    async with await epoll_loop.start_serving(events, TCP) as server:
        other = await connect(server.addresses[0])
        assert await other.say(b"x") == b"x"
        events.instead[callback] = lambda conn, *data: wrong
        bad = await connect(server.addresses[0])
        bad.writer.write(b"x")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await bad.read(1)
        await events.until(lambda: "closed" in events.names())
        events.instead.clear()
        assert await other.say(b"y") == b"y"
        assert reports == [events.told[-2][1]]  # and data() after it
    assert type(reports[0]) is TypeError
    assert str(reports[0]) == f"Events.{callback}() returned {wrong!r}, which is not bytes, an Action, both, or None"


@pytest.mark.parametrize("wrong", [b"x", Action.CLOSE, Action.DETACH, 0, (None, Action.SHUTDOWN)], ids=repr)
@pytest.mark.parametrize("callback", ["closed", "detached"])
async def test_what_may_not_be_returned_of_a_connection_that_is_gone(connect, reports, callback, wrong):
    """A socket that was given away is closed."""
    events = Recording()
    events.instead[callback] = lambda conn, what: wrong
    if callback == "detached":
        events.instead["data"] = lambda conn, data: Action.DETACH
    async with await epoll_loop.start_serving(events, TCP) as server:
        bad = await connect(server.addresses[0])
        bad.writer.write(b"x")
        bad.writer.write_eof()
        assert await bad.rest() == (b"x" if callback == "closed" else b"")
        await until(lambda: reports)
        events.instead.clear()
        other = await connect(server.addresses[0])
        assert await other.say(b"y") == b"y"
    assert [str(exc) for exc in reports] == [
        f"Events.{callback}() returned {wrong!r}, which is neither Action.SHUTDOWN nor nothing"
    ]
    assert type(reports[0]) is TypeError


@pytest.mark.parametrize("wrong", [b"x", Action.CLOSE, 0], ids=repr)
async def test_what_serving_may_not_return(wrong):
    events = Recording()
    events.instead["serving"] = lambda server: wrong
    with pytest.raises(TypeError, match=r"Events.serving\(\) returned .*, which is neither "):
        await epoll_loop.start_serving(events, TCP, "udp://127.0.0.1:0")


@pytest.mark.parametrize("wrong", [*WRONG, Action.DETACH, (b"x", Action.DETACH)], ids=repr)
async def test_what_may_not_be_returned_for_a_datagram(reports, wrong):
    """It is reported, and the next one is answered."""
    events = Recording()
    async with await epoll_loop.start_serving(events, "udp://127.0.0.1:0") as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(server.addresses[0])
            events.instead["data"] = lambda peer, data: wrong
            sock.send(b"bad")
            await until(lambda: reports)
            events.instead.clear()
            sock.send(b"good")
            answers = []
            while b"good" not in answers:
                async with asyncio.timeout(LIMIT):
                    answers.append(await server.loop.sock_recv(sock, 100))
    assert [type(exc) for exc in reports] == [TypeError]
    assert str(reports[0]).startswith("Events.data() returned ")
    assert answers == [b"good"]


async def test_what_pre_write_returns_is_ignored(connect, reports):
    class Events(Recording):
        def pre_write(self):
            return b"no", Action.CLOSE

    async with await epoll_loop.start_serving(Events(), TCP) as server:
        client = await connect(server.addresses[0])
        assert await client.say(b"one") == b"one"
        assert await client.say(b"two") == b"two"
    assert not reports


async def test_pre_write_that_raises(connect, reports):
    """The write raises it, and so the callback does."""

    class Events(Recording):
        def pre_write(self):
            raise errors.pop()

    errors = [ZeroDivisionError(), ZeroDivisionError()]
    events = Events()
    async with await epoll_loop.start_serving(events, TCP, "udp://127.0.0.1:0") as server:
        client = await connect(server.addresses[0])
        client.writer.write(b"x")
        assert await client.rest() == b""
        await events.until(lambda: "closed" in events.names())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", server.addresses[1])
            await until(lambda: len(reports) == 2)
        events.instead["data"] = lambda conn, data: None
        client = await connect(server.addresses[0])
        client.writer.write(b"y")
        await events.until(lambda: ("data", b"y") in events.told)
    assert not errors
    assert [message.partition("Events.")[2] for message in reports.messages] == [
        "data() failed.",
        "data() failed for a datagram",
    ]


@pytest.mark.parametrize("out", ["soon", b"x", float("nan"), -1, True, (1, 2)], ids=repr)
async def test_what_tick_may_not_return(reports, out):
    """It is reported, and the server is as it was."""

    class Events(Recording):
        def tick(self):
            return out

    async with await epoll_loop.start_serving(Events(), TCP):
        assert len(reports) == 1
    assert type(reports[0]) in (TypeError, ValueError)
    assert str(reports[0]).startswith("Events.tick() returned ")


@pytest.mark.parametrize("error", [ZeroDivisionError, FileNotFoundError, TimeoutError])
@pytest.mark.parametrize("callback", ["opened", "data", "closed", "detached"])
async def test_a_callback_that_raises(connect, reports, callback, error):
    """The connection ends, it is reported once, and another one is served."""

    def fail(*args):
        raise error

    events = Recording()
    async with await epoll_loop.start_serving(events, TCP) as server:
        other = await connect(server.addresses[0])
        assert await other.say(b"x") == b"x"
        events.instead[callback] = fail
        if callback == "detached":
            events.instead["data"] = lambda conn, data: Action.DETACH
        bad = await connect(server.addresses[0])
        bad.writer.write(b"x")
        if callback == "closed":
            bad.writer.write_eof()
        try:
            await bad.rest()
        except ConnectionError:
            pass  # our bytes were not read
        await until(lambda: reports)
        events.instead.clear()
        assert await other.say(b"y") == b"y"
    assert [type(exc) for exc in reports] == [error]
    assert f"Events.{callback}() failed" in reports.messages[0]
