"""start_serving() next to aiohttp's server: one loop, one process, and each can reach the other."""

import asyncio
import contextlib

import aiohttp
import pytest
from aiohttp import web
from recording import LIMIT

import epoll_loop

pytestmark = pytest.mark.usefixtures("no_descriptor_left")


class Room(epoll_loop.Events):
    """What a web page says to all connections; what they say is counted."""

    def __init__(self):
        self.conns = set()
        self.news = b""
        self.heard = 0

    def serving(self, server):
        self.server = server

    def opened(self, conn):
        self.conns.add(conn)
        return b"hello\n"

    def data(self, conn, data):
        if not data:  # after wake()
            return self.news
        self.heard += 1
        return data

    def closed(self, conn, error):
        self.conns.discard(conn)


ROOM = web.AppKey("room", Room)


async def say(request):
    room = request.app[ROOM]
    room.news = await request.read()
    for conn in room.conns:
        conn.wake()
    return web.json_response({"told": len(room.conns), "heard": room.heard})


async def end(request):
    request.app[ROOM].server.shutdown()
    return web.Response(text="bye")


@contextlib.asynccontextmanager
async def pages(room):
    """aiohttp's server, and its URL."""
    app = web.Application()
    app[ROOM] = room
    app.add_routes([web.post("/say", say), web.post("/end", end)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def client(url):
    # aiodns, which aiohttp takes where it is there, keeps descriptors of its own.
    return aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver()))


@contextlib.asynccontextmanager
async def both():
    """Both servers: the events, and the address of each."""
    room = Room()
    async with await epoll_loop.start_serving(room, "tcp://127.0.0.1:0") as server, pages(room) as url:
        yield room, server.addresses[0], url


async def test_requests_to_both(connect):
    """Each in turn, many at once, and a page that speaks to the connections of the other server."""
    async with both() as (room, address, url), client(url) as session, asyncio.timeout(LIMIT):
        talks = [await connect(address) for _ in range(5)]
        for talk in talks:
            assert await talk.read(6) == b"hello\n"
        for number in range(10):
            line = b"%d\n" % number
            for talk in talks:
                assert await talk.say(line) == line
            async with session.post("/say", data=line) as response:
                assert await response.json() == {"told": 5, "heard": 5 * (number + 1)}
            for talk in talks:
                assert await talk.read(len(line)) == line

        async def echo(talk):
            for number in range(100):
                line = b"%06d" % number
                assert await talk.say(line) == line

        async def ask():
            room.conns.clear()  # nobody is told
            for _ in range(20):
                async with session.post("/say") as response:
                    assert response.status == 200

        await asyncio.gather(*map(echo, talks), ask(), ask())
        assert room.heard == 50 + 500


async def test_a_page_ends_the_other_server(connect):
    """And goes on by itself."""
    async with both() as (_, address, url), client(url) as session, asyncio.timeout(LIMIT):
        talk = await connect(address)
        assert await talk.read(6) == b"hello\n"
        async with session.post("/end") as response:
            assert await response.text() == "bye"
        assert await talk.rest() == b""
        with pytest.raises(ConnectionRefusedError):
            await connect(address)
        async with session.post("/say") as response:
            assert await response.json() == {"told": 0, "heard": 0}


async def test_aiohttp_ends_before(connect):
    """What it leaves alone goes on."""
    room = Room()
    async with await epoll_loop.start_serving(room, "tcp://127.0.0.1:0") as server:
        async with pages(room):
            talk = await connect(server.addresses[0])
            assert await talk.read(6) == b"hello\n"
        assert await talk.say(b"still here") == b"still here"
    assert await talk.rest() == b""
