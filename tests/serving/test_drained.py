"""Events.drained(): who has stopped sending to a peer that is behind goes on when it has caught up."""

import asyncio

import pytest
import tls
from recording import Recording

import epoll_loop
from epoll_loop import Action, delimiter

pytestmark = pytest.mark.usefixtures("no_descriptor_left")
TCP = "tcp://127.0.0.1:0"
LARGE = 20_000_000  # bytes: more than the kernel takes while nobody reads


class Drained(Recording):
    def drained(self, conn):
        self.note("drained", conn.queued())
        return self.does("drained", conn)


class Producer(Drained):
    """Sends numbered pieces, for as long as the peer is not behind."""

    def data(self, conn, data):
        conn.context = iter(range(2000))
        return self.drained(conn)

    def drained(self, conn):
        for number in conn.context:
            conn.write(b"%09d\n" % number * 1000)
            if conn.is_behind():
                break
        return super().drained(conn)


@pytest.mark.parametrize("with_tls", [False, True], ids=["tcp", "tls"])
async def test_who_has_stopped_goes_on(connect, with_tls):
    """All of it comes, in order, and at no time much of it is queued."""
    events = Producer()
    context, options = (tls.server_context(), {"ssl": tls.client_context(), **tls.NAME}) if with_tls else (None, {})
    async with await epoll_loop.start_serving(events, TCP, tls=context) as server:
        client = await connect(server.addresses[0], **options)
        client.writer.transport.pause_reading()
        client.writer.write(b"go")
        await events.until(lambda: "drained" in events.names())
        client.writer.transport.resume_reading()
        assert await client.read(LARGE) == b"".join(b"%09d\n" % number * 1000 for number in range(2000))
    queued = [size for name, size in events.told if name == "drained"]
    assert len(queued) > 1
    assert max(queued) < 1_000_000


@pytest.mark.parametrize("out", [b"bye", (b"bye", Action.CLOSE)], ids=repr)
async def test_what_it_may_return(connect, out):
    events = Drained()
    events.instead.update(data=lambda conn, data: bytes(LARGE), drained=lambda conn: out)
    async with await epoll_loop.start_serving(events, TCP) as server:
        client = await connect(server.addresses[0])
        client.writer.write(b"go")
        assert await client.read(LARGE + 3) == bytes(LARGE) + b"bye"
        if out == b"bye":
            client.writer.write_eof()
        assert await client.rest() == b""
    assert events.names() == ["serving", "opened", "data", "drained", "closed"]
    assert events.told[-1] == ("closed", None)


@pytest.mark.parametrize("raises", [False, True])
async def test_what_it_may_not_do(connect, reports, raises):
    events = Drained()
    events.instead.update(data=lambda conn, data: bytes(LARGE), drained=lambda conn: 1 / 0 if raises else 1)
    async with await epoll_loop.start_serving(events, TCP) as server:
        client = await connect(server.addresses[0])
        client.writer.write(b"go")
        await client.rest()
        await events.until(lambda: "closed" in events.names())
    assert [type(exc) for exc in reports] == [ZeroDivisionError if raises else TypeError]
    assert "Events.drained() failed" in reports.messages[0]
    assert raises or str(reports[0]).startswith("Events.drained() returned 1, ")
    assert events.told[-1] == ("closed", reports[0])


async def test_messages_that_wait_come_first(connect):
    """They came together, and each has a large answer."""
    events = Drained()
    events.framing = delimiter(b"\n")
    events.instead["data"] = lambda conn, data: bytes(200_000)
    async with await epoll_loop.start_serving(events, TCP) as server:
        client = await connect(server.addresses[0])
        client.writer.transport.pause_reading()
        client.writer.write(b"x\n" * 200)
        await events.until(lambda: "data" in events.names())
        conn = events.told[1][1]
        while not conn.is_behind():
            await asyncio.sleep(0)
        client.writer.transport.resume_reading()
        assert await client.read(200 * 200_000) == bytes(200 * 200_000)
        await events.until(lambda: "drained" in events.names())
    names = events.names()
    assert names[2:202] == ["data"] * 200
    assert "data" not in names[202:]


@pytest.mark.parametrize("end", ["close", "write_eof", "detach"])
async def test_not_for_one_that_sends_nothing_more(connect, end):
    events = Drained()
    events.instead["data"] = lambda conn, data: (conn.write(bytes(LARGE)), getattr(conn, end)())[1]
    events.instead["detached"] = lambda conn, sock: sock.close()
    async with await epoll_loop.start_serving(events, TCP) as server:
        client = await connect(server.addresses[0])
        client.writer.write(b"go")
        assert await client.read(LARGE) == bytes(LARGE)
        assert await client.rest() == b""
        client.writer.close()
        await events.until(lambda: {"closed", "detached"} & set(events.names()))
    assert "drained" not in events.names()
