"""The end of what is written, and connections that are given away."""

import asyncio
import errno

import pytest
from recording import Recording
from resources import limited

import epoll_loop
from epoll_loop import Action

pytestmark = pytest.mark.usefixtures("no_descriptor_left")
TCP = "tcp://127.0.0.1:0"
LARGE = 20_000_000  # bytes: more than the kernel takes while nobody reads


async def test_the_end_of_what_is_written(connect):
    """All that was queued arrives before it, and what the peer goes on to send is read and no reset."""
    events = Recording()
    events.instead["data"] = lambda conn, data: (conn.write(bytes(1_000_000)), conn.write_eof())[0]
    async with await epoll_loop.start_serving(events, TCP) as server:
        client = await connect(server.addresses[0])
        client.writer.write(b"go")
        assert await client.read(1_000_000) == bytes(1_000_000)
        assert await client.rest() == b""
        events.instead["data"] = lambda conn, data: conn.write_eof()  # once more, in vain
        client.writer.write(b"more")
        await events.until(lambda: ("data", b"more") in events.told)
        assert "closed" not in events.names()
        client.writer.close()
        await events.until(lambda: "closed" in events.names())
    assert events.told[-1] == ("closed", None)


@pytest.mark.parametrize("answered", [False, True])
async def test_nothing_is_written_after_the_end(connect, reports, answered):
    def data(conn, data):
        conn.write_eof()
        if answered:
            return data
        with pytest.raises(RuntimeError, match="after write_eof"):
            conn.write(data)
        return b""

    events = Recording()
    events.instead["data"] = data
    async with await epoll_loop.start_serving(events, TCP) as server:
        client = await connect(server.addresses[0])
        client.writer.write(b"x")
        assert await client.rest() == b""
        client.writer.close()
        await events.until(lambda: "closed" in events.names())
    assert [type(exc) for exc in reports] == [RuntimeError] * answered
    assert events.told[-1] == ("closed", reports[0] if answered else None)


async def test_detach(connect):
    """All that was queued arrives before, and the socket is a blocking one."""
    events = Recording()
    events.instead["data"] = lambda conn, data: (bytes(1_000_000), Action.DETACH)
    async with await epoll_loop.start_serving(events, TCP) as server:
        client = await connect(server.addresses[0])
        client.writer.write(b"go")
        assert await client.read(1_000_000) == bytes(1_000_000)
        await events.until(lambda: "detached" in events.names())
    sock = events.told[-1][1]
    assert sock.getblocking()
    with sock:
        await asyncio.to_thread(sock.sendall, b"mine")
    assert await client.rest() == b"mine"
    assert "closed" not in events.names()


async def test_detach_with_more_pieces_than_one_system_call_takes(connect):
    def data(conn, data):
        for _ in range(3000):
            conn.write(b"x")
        return Action.DETACH

    events = Recording()
    events.instead["data"] = data
    async with await epoll_loop.start_serving(events, TCP) as server:
        client = await connect(server.addresses[0])
        client.writer.write(b"go")
        assert await client.read(3000) == b"x" * 3000
        await events.until(lambda: "detached" in events.names())
        events.told[-1][1].close()


async def test_wake_while_it_waits_to_be_detached(connect):
    events = Recording()
    events.instead["data"] = lambda conn, data: (bytes(20_000_000), Action.DETACH)
    async with await epoll_loop.start_serving(events, TCP) as server:
        client = await connect(server.addresses[0])
        client.writer.write(b"go")
        await events.until(lambda: "data" in events.names())
        events.told[1][1].wake()
        assert await client.read(20_000_000) == bytes(20_000_000)
        await events.until(lambda: "detached" in events.names())
        events.told[-1][1].close()
    assert events.names().count("data") == 1


async def test_detach_after_the_end_of_what_is_written(connect):
    """All that was queued arrives, and the end of it, though the socket stays open."""
    events = Recording()
    events.instead["data"] = lambda conn, data: (conn.write(bytes(LARGE)), conn.write_eof(), Action.DETACH)[2]
    async with await epoll_loop.start_serving(events, TCP) as server:
        client = await connect(server.addresses[0])
        client.writer.write(b"go")
        assert await client.read(LARGE) == bytes(LARGE)
        assert await client.rest() == b""
        await events.until(lambda: "detached" in events.names())
        with events.told[-1][1] as sock:
            client.writer.write(b"mine")
            assert await asyncio.to_thread(sock.recv, 10) == b"mine"


@pytest.mark.parametrize("size", [0, 3, LARGE])
async def test_detach_after_close(connect, reports, size):
    """It is an error of the callback, and ends the connection, once."""

    def data(conn, data):
        conn.write(bytes(size))
        conn.close()
        with pytest.raises(RuntimeError, match="not open"):
            conn.detach()
        return Action.DETACH

    events = Recording()
    events.instead["data"] = data
    async with await epoll_loop.start_serving(events, TCP) as server:
        client = await connect(server.addresses[0])
        client.writer.write(b"x")
        await events.until(lambda: "closed" in events.names())
        with pytest.raises(RuntimeError, match="not open"):
            events.told[1][1].detach()
    assert [str(exc) for exc in reports] == ["the connection is not open"]
    assert events.names() == ["serving", "opened", "data", "closed"]
    assert events.told[-1] == ("closed", reports[0])


@pytest.mark.parametrize("size", [0, LARGE])
async def test_detach_without_a_descriptor_for_it(connect, reports, size):
    """At once, or when all is sent: it is reported, and closes the connection."""

    def data(conn, data):
        conn.write(bytes(size))
        if size:
            return Action.DETACH
        with limited(0):
            conn.detach()
        return None

    events = Recording()
    events.instead["data"] = data
    async with await epoll_loop.start_serving(events, TCP) as server:
        client = await connect(server.addresses[0])
        client.writer.write(b"go")
        if size:
            client.writer.transport.pause_reading()
            await events.until(lambda: "data" in events.names())
            client.writer.transport.resume_reading()
            with limited(0):
                assert await client.read(size) == bytes(size)
                await events.until(lambda: "closed" in events.names())
        assert await client.rest() == b""
        await events.until(lambda: "closed" in events.names())
    assert [exc.errno for exc in reports] == [errno.EMFILE]
    assert events.names() == ["serving", "opened", "data", "closed"]
    assert events.told[-1] == ("closed", reports[0])
