"""Serving.accept(): connections that somebody else has accepted. Each is released once, whatever comes of it."""

import asyncio
import socket

import pytest
import tls
from many import RESET
from recording import LIMIT, Recording

from epoll_loop.serving.addresses import parse_all
from epoll_loop.serving.server import Serving

pytestmark = pytest.mark.usefixtures("no_descriptor_left")


class Handed:
    """A server that accepts nothing itself, and the connections that it gets."""

    def __init__(self, context=None):
        self.events = Recording()
        self.released = 0
        self.context = context

    def on_released(self):
        self.released += 1
        self.events.changed.set()

    async def until_released(self, count):
        await self.events.until(lambda: self.released == count)

    async def __aenter__(self):
        self.reports = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: self.reports.append(context))
        self.server = Serving(self.events, released=self.on_released)
        await self.server.start(parse_all(["tcp://127.0.0.1:0"], self.context), 10, [("name", [])])
        assert self.server.addresses == ["name"]
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.setblocking(False)
        self.address = self.listening.getsockname()
        return self

    async def __aexit__(self, *exc):
        self.listening.close()
        async with asyncio.timeout(LIMIT):
            await self.server.__aexit__(*exc)

    async def accept(self):
        async with asyncio.timeout(LIMIT):
            sock, _ = await self.server.loop.sock_accept(self.listening)
        self.server.accept(0, sock)


async def test_it_is_served(connect):
    async with Handed() as handed:
        client = await connect(handed.address)
        await handed.accept()
        assert await client.say(b"hello") == b"hello"
        assert handed.released == 0
        client.writer.close()
        await handed.until_released(1)
    assert handed.events.names() == ["serving", "opened", "data", "closed"]
    assert handed.released == 1


async def test_a_peer_that_is_gone():
    async with Handed() as handed:
        with socket.create_connection(handed.address) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        await handed.accept()
        await handed.until_released(1)
    assert handed.events.names().count("opened") == handed.events.names().count("closed")
    assert handed.reports == []


async def test_a_socket_that_is_closed():
    async with Handed() as handed:
        closed = socket.socket()
        closed.close()
        handed.server.accept(0, closed)
        assert handed.released == 1
    assert handed.events.names() == ["serving"]
    assert handed.reports == []


async def test_a_socket_that_can_not_be_served():
    """It is told of, and not kept."""
    async with Handed(tls.server_context()) as handed:
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        handed.server.accept(0, datagrams)
        await handed.until_released(1)
        assert datagrams.fileno() == -1
    assert [str(report["exception"])[:29] for report in handed.reports] == ["A Stream Socket was expected,"]
    assert handed.events.names() == ["serving"]


async def test_too_late():
    async with Handed() as handed:
        with socket.create_connection(handed.address) as client:
            client.settimeout(LIMIT)
            handed.server.shutdown()
            await handed.accept()
            assert handed.released == 1
            assert client.recv(1) == b""


async def test_tls(connect):
    async with Handed(tls.server_context()) as handed:
        dialling = asyncio.create_task(connect(handed.address, ssl=tls.client_context(), **tls.NAME))
        await handed.accept()
        client = await dialling
        assert await client.say(b"hello") == b"hello"
        assert handed.released == 0
        client.writer.close()
        await handed.until_released(1)
    assert handed.events.names() == ["serving", "opened", "data", "closed"]
    assert handed.released == 1


async def test_no_handshake(connect):
    async with Handed(tls.server_context()) as handed:
        client = await connect(handed.address)
        await handed.accept()
        client.writer.write(b"GET / HTTP/1.0\r\n\r\n")
        await handed.until_released(1)
    assert handed.events.names() == ["serving"]
    assert handed.reports == []


@pytest.mark.parametrize("begun", [False, True])
async def test_the_end_comes_before_the_handshake(connect, begun):
    async with Handed(tls.server_context()) as handed:
        client = await connect(handed.address)
        await handed.accept()
        if begun:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        handed.server.shutdown()
        async with asyncio.timeout(LIMIT):
            await handed.server.wait_closed()
        assert handed.released == 1
        assert await client.rest() == b""
    assert handed.events.names() == ["serving"]
