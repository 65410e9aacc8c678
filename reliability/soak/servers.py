"""What is served: HTTP and a WebSocket by aiohttp, an echo on raw protocols, each plain and by TLS, and UDP."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random
from typing import Any

import aiohttp
import trustme
from aiohttp import web

from reliability.soak.content import FILE_SIZE, MB, content, digest, limit_buffers
from reliability.soak.fault import whose
from reliability.soak.record import Record
from reliability.soak.world import World

# An echo stops reading at the high-water mark of 64 KiB, one read too late: that is 256 KiB, and TLS adds its records.
MOST_BUFFERED = MB
BACKLOG = 1024
PATIENCE = 1.0  # seconds that the servers of those who stall wait for them
_WORLD = web.AppKey("world", World)


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _noted(handler: Handler) -> Handler:
    """Have the record know what a handler sees of its client: aiohttp itself is silent about most of it.

    No middleware: aiohttp caches those for good, with the application and its loop.
    """

    async def run(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException:
            raise
        except Exception as exc:
            request.app[_WORLD].record.seen(whose(request.remote), "server", exc)
            raise

    return run


@_noted
async def _json(request: web.Request) -> web.Response:
    seed = request.query["seed"]
    return web.json_response({"seed": seed, "digest": digest(content(seed, 1000))})


@_noted
async def _echo(request: web.Request) -> web.Response:
    data = await request.read()
    return web.Response(body=data, headers={"X-Digest": digest(data)})


@_noted
async def _stream(request: web.Request) -> web.StreamResponse:
    random = Random(request.query["seed"])
    data = content(request.query["seed"], int(request.query["size"]))
    response = web.StreamResponse()
    await response.prepare(request)
    start = 0
    while start < len(data):
        end = start + random.choice((1, 1000, 16384, 65536, 200_000))
        await response.write(data[start:end])
        start = end
    await response.write_eof()
    return response


@_noted
async def _file(request: web.Request) -> web.FileResponse:
    return web.FileResponse(request.app[_WORLD].folder / "file")


@_noted
async def _websocket(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(max_msg_size=4 * MB)
    await ws.prepare(request)
    async for message in ws:
        if message.type is aiohttp.WSMsgType.BINARY:
            await ws.send_bytes(message.data)
        elif message.type is aiohttp.WSMsgType.TEXT:
            await ws.send_str(message.data)
    return ws


class _Echo(asyncio.BaseProtocol):
    """Sends back what comes, and reads nothing while the peer takes nothing."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._record.tallies["connections of echoes made"] += 1

    def _send(self, data: bytes) -> None:
        self._transport.write(data)
        buffered = self._transport.get_write_buffer_size()
        self._record.high("bytes buffered by an echo", buffered)
        self._record.check(buffered <= MOST_BUFFERED, "an echo buffers more than the water marks allow")

    def pause_writing(self) -> None:
        self._record.tallies["writing paused"] += 1
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._record.tallies["writing resumed"] += 1
        self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._record.tallies["connections of echoes lost"] += 1
        if exc is not None:
            self._record.seen(whose(self._transport.get_extra_info("peername")), "server", exc)


class Echo(_Echo, asyncio.Protocol):
    """The echo, with what was read."""

    def data_received(self, data: bytes) -> None:
        self._send(data)


class BufferedEcho(_Echo, asyncio.BufferedProtocol):
    """The echo, with a buffer to read into."""

    def __init__(self, record: Record) -> None:
        super().__init__(record)
        self._buffer = bytearray(30_000)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._send(bytes(self._buffer[:nbytes]))


class Impatient(asyncio.Protocol):
    """Ends a connection that says nothing for too long."""

    def connection_made(self, transport: Any) -> None:
        asyncio.get_running_loop().call_later(PATIENCE, transport.close)


class EchoDatagrams(asyncio.DatagramProtocol):
    """Sends back every datagram."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._transport.sendto(data, addr)

    def error_received(self, exc: Exception) -> None:
        self._record.seen(None, "server", exc)


def _context(world: World) -> ssl.SSLContext:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(world.folder / "ca.pem"))
    authority.configure_trust(world.client_context)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.ECDSA).configure_cert(server)
    return server


def _application(world: World) -> web.Application:
    app = web.Application(client_max_size=4 * MB)
    app[_WORLD] = world
    (world.folder / "file").write_bytes(content("file", FILE_SIZE))
    app.add_routes(
        [
            web.get("/json", _json),
            web.post("/echo", _echo),
            web.get("/stream", _stream),
            web.get("/ws", _websocket),
            web.get("/file", _file),
        ]
    )
    return app


def _listening(places: dict[str, Any], name: str) -> socket.socket:
    sock = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    limit_buffers(sock)  # what it accepts inherits that
    places[name] = sock.getsockname()
    return sock


@contextlib.asynccontextmanager
async def serving(world: World) -> AsyncIterator[None]:
    """Have all the servers run, and enter their addresses in `world.places`."""
    loop, record, places = asyncio.get_running_loop(), world.record, world.places
    context = _context(world)
    kinds = itertools.cycle((Echo, BufferedEcho))

    def echo() -> asyncio.BaseProtocol:
        return next(kinds)(record)

    async with contextlib.AsyncExitStack() as stack:
        runner = web.AppRunner(_application(world), access_log=None, shutdown_timeout=5)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        for name, secure in (("http", None), ("https", context)):
            await web.SockSite(runner, _listening(places, name), ssl_context=secure, backlog=BACKLOG).start()
        for name, protocol, options in (
            ("tcp", echo, {}),
            ("tls", echo, {"ssl": context}),
            ("impatient", Impatient, {}),
            ("impatient tls", Impatient, {"ssl": context, "ssl_handshake_timeout": PATIENCE}),
        ):
            server = await loop.create_server(protocol, sock=_listening(places, name), backlog=BACKLOG, **options)
            await stack.enter_async_context(server)
        places["unix"] = str(world.folder / "unix")
        unix = await loop.create_unix_server(echo, places["unix"], backlog=BACKLOG)
        await stack.enter_async_context(unix)
        for name in ("udp", "udp flood"):
            transport, _ = await loop.create_datagram_endpoint(lambda: EchoDatagrams(record), ("127.0.0.1", 0))
            stack.callback(transport.close)
            places[name] = transport.get_extra_info("sockname")
        # Bound and not listening, or connected to somebody else: nobody gets the port, and who comes to it is refused.
        for name, kind in (("closed", socket.SOCK_STREAM), ("closed udp", socket.SOCK_DGRAM)):
            closed = stack.enter_context(socket.socket(type=kind))
            closed.bind(("127.0.0.1", 0))
            places[name] = closed.getsockname()
        closed.connect(("127.0.0.1", 9))
        yield
