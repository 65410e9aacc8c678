"""The servers under test: ``python -m benchmarks.servers WORKLOAD --loop NAME``.

Prints the port that it listens on (127.0.0.1), then serves until SIGTERM; with `--exit-after-connections N`
also until N connections have come and all of them are gone.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from benchmarks.loops import ALL_LOOPS, check_transport, new_event_loop
from benchmarks.tls import server_context

if TYPE_CHECKING:
    from aiohttp import web

HOST = "127.0.0.1"
BACKLOG = 4096


class Connections:
    """Counts what came and what is still there; costs nothing while a connection lives."""

    def __init__(self, loop: str, exit_after: int, stop: asyncio.Event) -> None:
        self._loop = loop
        self._exit_after = exit_after
        self._stop = stop
        self._come = self._there = 0

    def made(self, transport: object = None) -> None:
        if transport is not None and not self._come:
            try:
                check_transport(self._loop, transport)
            except TypeError as error:
                give_up(str(error))
        self._come += 1
        self._there += 1

    def lost(self) -> None:
        self._there -= 1
        if self._exit_after and self._come >= self._exit_after and not self._there:
            self._stop.set()


def give_up(why: str) -> NoReturn:
    """Ends the server for all to see: not every loop lets a SystemExit out of a callback."""
    print(why, file=sys.stderr, flush=True)
    os._exit(1)


Starter = Callable[[Connections], Awaitable[int]]


class Idle(asyncio.Protocol):
    """Keeps the connection and does nothing more; the other protocols are made of it."""

    __slots__ = ("connections", "transport")

    def __init__(self, connections: Connections) -> None:
        self.connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.connections.made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.lost()


class Echo(Idle):
    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Abort(Idle):
    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        transport.abort()


def answer(body: int, fields: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n%b" % (body, fields, b"x" * body)


ANSWERS = {b"/1k": answer(1024), b"/100k": answer(100 * 1024)}
LAST_ANSWERS = {b"/1k": answer(1024, b"Connection: close\r\n")}
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class Http(Idle):
    """Answers one GET after the other, with a body as long as the path says."""

    __slots__ = ("head",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.head = b""

    def data_received(self, data: bytes) -> None:
        head = self.head + data
        if not head.endswith(b"\r\n\r\n"):
            self.head = head
            return
        self.head = b""
        path = head[4 : head.find(b" ", 4)]
        if head.find(b"\r\nConnection: close\r\n") >= 0:  # `in` makes and drops a TypeError at every call
            self.transport.write(LAST_ANSWERS.get(path, NOT_FOUND))
            self.transport.close()
        else:
            self.transport.write(ANSWERS.get(path, NOT_FOUND))


class Handshake(Http):
    """The server gives up where a handshake was not a full one."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if transport.get_extra_info("ssl_object").session_reused:
            give_up("a TLS session was reused")


class DatagramEcho(asyncio.DatagramProtocol):
    __slots__ = ("transport",)

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


def protocol_server(
    factory: Callable[[Connections], asyncio.BaseProtocol], context: Callable[[], ssl.SSLContext | None] = lambda: None
) -> Starter:
    async def start(connections: Connections) -> int:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: factory(connections), HOST, 0, backlog=BACKLOG, ssl=context())
        return port_of(server)

    return start


async def streams(connections: Connections) -> int:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.made()
        try:
            while data := await reader.read(65536):
                writer.write(data)  # no drain(): what is sent is never more than what was read
        finally:
            writer.close()
            connections.lost()

    return port_of(await asyncio.start_server(echo, HOST, 0, backlog=BACKLOG))


async def sockets(connections: Connections) -> int:
    """On the coroutines of the loop that take a socket; a task for every connection."""
    loop = asyncio.get_running_loop()
    listener = socket.create_server((HOST, 0), backlog=BACKLOG)
    listener.setblocking(False)

    async def accept() -> None:
        with listener:  # where this ends by an error, the load is refused at once
            while True:
                connection, _ = await loop.sock_accept(listener)
                keep_task(echo(connection))

    async def echo(connection: socket.socket) -> None:
        connections.made()
        with connection:
            while data := await loop.sock_recv(connection, 65536):
                await loop.sock_sendall(connection, data)
        connections.lost()

    keep_task(accept())
    return listener.getsockname()[1]


async def datagrams(connections: Connections) -> int:
    """UDP has no connections to count: it serves until SIGTERM."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(DatagramEcho, local_addr=(HOST, 0))
    kept.add(transport)
    return transport.get_extra_info("sockname")[1]


async def aiohttp(connections: Connections, context: ssl.SSLContext | None = None) -> int:
    from aiohttp import web

    async def plain(request: web.Request) -> web.Response:
        return web.Response(text="Hello, World!")

    async def json(request: web.Request) -> web.Response:
        return web.json_response({"message": "Hello, World!"})

    app = web.Application()
    app.add_routes([web.get("/plain", plain), web.get("/json", json)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    count_handlers(runner.server, connections)
    await web.TCPSite(runner, HOST, 0, backlog=BACKLOG, ssl_context=context).start()
    return runner.addresses[0][1]


async def aiohttps(connections: Connections) -> int:
    return await aiohttp(connections, server_context())


def count_handlers(server: web.Server, connections: Connections) -> None:
    """aiohttp's protocols tell their server of every connection: listen there."""
    made, lost = server.connection_made, server.connection_lost

    def connection_made(handler: object, transport: object) -> None:
        connections.made(transport)
        made(handler, transport)

    def connection_lost(*arguments: object) -> None:
        lost(*arguments)
        connections.lost()

    server.connection_made, server.connection_lost = connection_made, connection_lost


def port_of(server: asyncio.Server) -> int:
    kept.add(server)
    return server.sockets[0].getsockname()[1]


def keep_task(coroutine: Coroutine[object, object, None]) -> None:
    task = asyncio.create_task(coroutine)
    kept.add(task)
    task.add_done_callback(kept.discard)


kept: set[object] = set()  # a server or a task that nobody holds may be collected

WORKLOADS: dict[str, Starter] = {
    "aiohttp": aiohttp,
    "protocol": protocol_server(Echo),
    "streams": streams,
    "sockets": sockets,
    "datagrams": datagrams,
    "abort": protocol_server(Abort),
    "idle": protocol_server(Idle),
    "https": protocol_server(Http, server_context),
    "handshakes": protocol_server(Handshake, partial(server_context, tickets=False)),
    "aiohttps": aiohttps,
    "idletls": protocol_server(Idle, server_context),
}


async def serve(workload: str, loop: str, exit_after_connections: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(await WORKLOADS[workload](Connections(loop, exit_after_connections, stop)), flush=True)
    await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.servers", description=__doc__)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--loop", choices=ALL_LOOPS, required=True)
    parser.add_argument("--exit-after-connections", type=int, default=0, metavar="N")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=partial(new_event_loop, arguments.loop)) as runner:
        runner.run(serve(arguments.workload, arguments.loop, arguments.exit_after_connections))


if __name__ == "__main__":
    main()
