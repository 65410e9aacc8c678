"""The programs that are put under faults: servers and proxies on the loop, their clients blocking sockets in threads.

A program is a coroutine; its clients' threads meet no faults. It returns what each client has seen: "whole" when every
byte came back and in order, else how the connection ended. Something else than what was sent, or nothing at all until
the time is over, is an AssertionError.
"""

import asyncio
import contextlib
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tls
from aiohttp import web

CLIENTS = 2
PATIENCE = 20  # seconds that a client waits for something to happen: no program needs one of them
DATA = tls.pattern(200_000)
CHUNKS = [DATA[:1], DATA[1:700], DATA[700:20_000], *(DATA[i : i + 40_000] for i in range(20_000, len(DATA), 40_000))]
UNREAD = 60_000

SERVER = tls.server_context()
CLIENT = tls.client_context()
threads = ThreadPoolExecutor(CLIENTS)
connections: dict[asyncio.Protocol, int] = {}  # -1: made, and not lost


class Echo(asyncio.Protocol):
    """Sends back what comes, each chunk in two, and waits where the peer does not read."""

    def connection_made(self, transport: Any) -> None:
        assert self not in connections
        connections[self] = -1
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        half = len(data) // 2
        self.transport.write(data[:half])
        self.transport.writelines([data[half:], b""])

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        assert exc is None or isinstance(exc, OSError), repr(exc)
        connections[self] += 1  # a second time is too much


class BufferedEcho(Echo, asyncio.BufferedProtocol):
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.buffer = bytearray(5_000)

    def get_buffer(self, hint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        self.data_received(bytes(self.buffer[:count]))


def converse(address: tuple[str, int], context: ssl.SSLContext | None = None) -> str:
    """Send all there is and read all that comes back, from a socket that knows nothing of the loop."""
    received = bytearray()
    sent = 0
    try:
        with socket.create_connection(address, PATIENCE) as raw:
            sock = tls.secure(raw, context) if context else raw
            with sock:
                for chunk in CHUNKS:
                    sock.sendall(chunk)
                    sent += len(chunk)
                    # No more on the way than the kernel has room for: who only sends would wait for ever.
                    while sent - len(received) > UNREAD or (sent == len(DATA) != len(received)):
                        received += sock.recv(10_000) or _ended()
                        assert DATA.startswith(received), f"other bytes than those sent, among {len(received)}"
    except TimeoutError as exc:
        raise AssertionError(f"nothing happens any more after {len(received)} bytes of {sent}") from exc
    except (OSError, EOFError) as exc:
        return f"{type(exc).__name__} after {len(received)}"
    return "whole"


def _ended() -> bytes:
    raise EOFError


async def clients(address: Any, client: Callable[..., str] = converse, *rest: Any) -> list[str]:
    """What each of the clients has seen."""
    loop = asyncio.get_running_loop()
    return await asyncio.gather(*(loop.run_in_executor(threads, client, address, *rest) for _ in range(CLIENTS)))


@contextlib.asynccontextmanager
async def closing(server: Any) -> AsyncIterator[Any]:
    """A server, closed at the end, and what is left of its connections."""
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        server.close_clients()
        await server.wait_closed()


Rest = Callable[[], Any]
Program = Callable[[Rest], Awaitable[list[str]]]
"""It calls its argument when the faults have to be over: the clients after that are to be served."""


async def echo(calm: Rest) -> list[str]:
    loop = asyncio.get_running_loop()
    async with closing(await loop.create_server(Echo, "127.0.0.1", 0)) as address:
        seen = await clients(address)
        calm()
        assert await clients(address) == ["whole"] * CLIENTS
    return seen


async def buffered(calm: Rest) -> list[str]:
    loop = asyncio.get_running_loop()
    async with closing(await loop.create_server(BufferedEcho, "127.0.0.1", 0)) as address:
        seen = await clients(address)
        calm()
        assert await clients(address) == ["whole"] * CLIENTS
    return seen


async def secure(calm: Rest) -> list[str]:
    loop = asyncio.get_running_loop()
    async with closing(await loop.create_server(Echo, "127.0.0.1", 0, ssl=SERVER)) as address:
        seen = await clients(address, converse, CLIENT)
        calm()
        assert await clients(address, converse, CLIENT) == ["whole"] * CLIENTS
    return seen


async def proxy(calm: Rest) -> list[str]:
    """Between the clients and an echo server, with asyncio's streams on both sides."""
    loop = asyncio.get_running_loop()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(10_000):
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = None
        try:
            there, upstream = await asyncio.open_connection(*behind)
            await asyncio.gather(copy(reader, upstream), copy(there, writer))
        except OSError:
            pass
        finally:
            for each in (writer, upstream):
                if each is not None:
                    each.transport.abort()

    async with (
        closing(await loop.create_server(Echo, "127.0.0.1", 0)) as behind,
        closing(await asyncio.start_server(serve, "127.0.0.1", 0)) as address,
    ):
        seen = await clients(address)
        calm()
        assert await clients(address) == ["whole"] * CLIENTS
    return seen


def get(address: tuple[str, int]) -> str:
    """A page and a file, by HTTP/1.1 on one connection."""
    received = bytearray()
    try:
        with socket.create_connection(address, PATIENCE) as sock:
            for path in (b"/page", b"/file"):
                sock.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path)
                del received[:]
                while b"\r\n\r\n" not in received:
                    received += sock.recv(65536) or _ended()
                head, _, body = received.partition(b"\r\n\r\n")
                assert head.startswith((b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 500 ")), head
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                while len(body) < length:
                    body += sock.recv(65536) or _ended()
                if head.startswith(b"HTTP/1.1 500 "):
                    return "an answer that says 500"
                assert body == DATA, f"another body than that of {path!r}"
    except TimeoutError as exc:
        raise AssertionError(f"nothing happens any more after {len(received)} bytes") from exc
    except (OSError, EOFError) as exc:
        return f"{type(exc).__name__} after {len(received)}"
    return "whole"


async def http(calm: Rest) -> list[str]:
    """aiohttp's server, with a page and a file that goes by sendfile."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(body=DATA)

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "file").write_bytes(DATA)
        app = web.Application()
        app.add_routes([web.get("/page", page), web.static("/", folder)])
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, shutdown_timeout=0).start()
            address = runner.addresses[0]
            seen = await clients(address, get)
            calm()
            assert await clients(address, get) == ["whole"] * CLIENTS
        finally:
            await runner.cleanup()
    return seen


class DatagramEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.transport.sendto(data, address)

    def error_received(self, exc: Exception) -> None:
        assert isinstance(exc, OSError)


def exchange(address: tuple[str, int]) -> str:
    """Datagrams, each asked for again until it is there: the network may lose one, and the server with an error may."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        sock.settimeout(0.2)
        for number in range(20):
            question = b"%d" % number * 100
            for _ in range(5 * PATIENCE):
                try:
                    sock.send(question)
                    while sock.recv(1_000) != question:
                        pass  # the answer to one that was asked twice
                    break
                except OSError:
                    pass
            else:
                raise AssertionError("nothing happens any more")
    return "whole"


async def datagrams(calm: Rest) -> list[str]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(DatagramEcho, ("127.0.0.1", 0))
    try:
        address = transport.get_extra_info("sockname")
        seen = await clients(address, exchange)
        calm()
        assert not transport.is_closing()
        assert await clients(address, exchange) == ["whole"] * CLIENTS
    finally:
        transport.close()
    return seen


async def sockets(calm: Rest) -> list[str]:
    """An echo server of coroutines on sockets."""
    loop = asyncio.get_running_loop()

    async def serve(sock: socket.socket) -> None:
        with sock:
            while data := await loop.sock_recv(sock, 10_000):
                await loop.sock_sendall(sock, data)

    async def accept(listener: socket.socket) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    connection, _ = await loop.sock_accept(listener)
                except OSError:
                    await asyncio.sleep(0)
                    continue
                group.create_task(_quietly(serve(connection)))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        serving = asyncio.create_task(accept(listener))
        address = listener.getsockname()
        try:
            seen = await clients(address)
            calm()
            assert await clients(address) == ["whole"] * CLIENTS
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
    return seen


async def _quietly(coroutine: Awaitable[None]) -> None:
    with contextlib.suppress(OSError):
        await coroutine


async def children(calm: Rest) -> list[str]:
    """A process that hands back what it is given, by pipes."""

    async def cat() -> str:
        try:
            process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        except OSError as exc:
            return type(exc).__name__
        output, _ = await asyncio.wait_for(process.communicate(DATA), PATIENCE)
        await process.wait()
        assert DATA.startswith(output)
        return "whole" if output == DATA else f"ended after {len(output)}"

    seen = [await cat() for _ in range(CLIENTS)]
    calm()
    assert await cat() == "whole"
    return seen


PROGRAMS: dict[str, Program] = {
    program.__name__: program for program in (echo, buffered, secure, proxy, http, datagrams, sockets, children)
}
