"""The servers under test: ``python -m benchmarks.servers WORKLOAD --loop NAME``.

Prints the port that it listens on (127.0.0.1), then serves until SIGTERM; with `--exit-after-connections N`
also until N connections have come and all of them are gone.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from benchmarks.loops import LOOPS, new_event_loop

if TYPE_CHECKING:
    from aiohttp import web

HOST = "127.0.0.1"
BACKLOG = 4096


class Connections:
    """Counts what came and what is still there; costs nothing while a connection lives."""

    def __init__(self, exit_after: int, stop: asyncio.Event) -> None:
        self._exit_after = exit_after
        self._stop = stop
        self._come = self._there = 0

    def made(self) -> None:
        self._come += 1
        self._there += 1

    def lost(self) -> None:
        self._there -= 1
        if self._exit_after and self._come >= self._exit_after and not self._there:
            self._stop.set()


Starter = Callable[[Connections], Awaitable[int]]


class Idle(asyncio.Protocol):
    """Keeps the connection and does nothing more; the other protocols are made of it."""

    __slots__ = ("connections", "transport")

    def __init__(self, connections: Connections) -> None:
        self.connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.connections.made()

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


def protocol_server(factory: Callable[[Connections], asyncio.BaseProtocol]) -> Starter:
    async def start(connections: Connections) -> int:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: factory(connections), HOST, 0, backlog=BACKLOG)
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


async def aiohttp(connections: Connections) -> int:
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
    await web.TCPSite(runner, HOST, 0, backlog=BACKLOG).start()
    return runner.addresses[0][1]


def count_handlers(server: web.Server, connections: Connections) -> None:
    """aiohttp's protocols tell their server of every connection: listen there."""
    made, lost = server.connection_made, server.connection_lost

    def connection_made(*arguments: object) -> None:
        connections.made()
        made(*arguments)

    def connection_lost(*arguments: object) -> None:
        lost(*arguments)
        connections.lost()

    server.connection_made, server.connection_lost = connection_made, connection_lost


def port_of(server: asyncio.Server) -> int:
    servers.append(server)
    return server.sockets[0].getsockname()[1]


servers: list[asyncio.Server] = []  # a server that nobody holds may be collected

WORKLOADS: dict[str, Starter] = {
    "aiohttp": aiohttp,
    "protocol": protocol_server(Echo),
    "streams": streams,
    "abort": protocol_server(Abort),
    "idle": protocol_server(Idle),
}


async def serve(workload: str, exit_after_connections: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(await WORKLOADS[workload](Connections(exit_after_connections, stop)), flush=True)
    await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.servers", description=__doc__)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--loop", choices=LOOPS, required=True)
    parser.add_argument("--exit-after-connections", type=int, default=0, metavar="N")
    arguments = parser.parse_args()
    loop = new_event_loop(arguments.loop)
    asyncio.set_event_loop(loop)
    loop.run_until_complete(serve(arguments.workload, arguments.exit_after_connections))
    loop.close()


if __name__ == "__main__":
    main()
