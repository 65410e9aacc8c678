"""anyio: TLS streams, from the start and later on, Unix sockets, datagrams."""

import asyncio
import os
import ssl
import tempfile
from functools import partial

import anyio
import certificates
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSListener, TLSStream

import epoll_loop

MIB = os.urandom(2**20)


async def echo(stream: ByteStream) -> None:
    async with stream:
        async for data in stream:
            await stream.send(data)


async def upgrade(stream: ByteStream, context: ssl.SSLContext) -> None:
    assert await stream.receive() == b"STARTTLS"
    await stream.send(b"go on")
    await echo(await TLSStream.wrap(stream, server_side=True, ssl_context=context))


async def there_and_back(stream: ByteStream) -> None:
    """A body of 1 MiB as it is sent and received at the same time."""
    async with stream, anyio.create_task_group() as both:
        both.start_soon(stream.send, MIB)
        received = bytearray()
        while len(received) < len(MIB):
            received += await stream.receive()
        assert received == MIB


async def tls_client(port: int, context: ssl.SSLContext) -> None:
    await there_and_back(await anyio.connect_tcp("127.0.0.1", port, ssl_context=context))


async def upgrading_client(port: int, context: ssl.SSLContext) -> None:
    stream = await anyio.connect_tcp("127.0.0.1", port)
    await stream.send(b"STARTTLS")
    assert await stream.receive() == b"go on"
    await there_and_back(await TLSStream.wrap(stream, hostname="127.0.0.1", ssl_context=context))


async def unix_client(path: str) -> None:
    await there_and_back(await anyio.connect_unix(path))


async def datagrams() -> None:
    async with await anyio.create_udp_socket(local_host="127.0.0.1") as server:
        port = server.extra(SocketAttribute.local_port)
        async with await anyio.create_connected_udp_socket("127.0.0.1", port) as client:
            for i in range(1000):
                await client.send(b"%d" % i)
                data, address = await server.receive()
                await server.sendto(data, *address)
                assert await client.receive() == b"%d" % i


async def main() -> None:
    server_context, context = certificates.contexts()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "socket")
        plain = await anyio.create_tcp_listener(local_host="127.0.0.1")
        below = await anyio.create_tcp_listener(local_host="127.0.0.1")
        tls = TLSListener(below, server_context)
        unix = await anyio.create_unix_listener(path)
        async with plain, tls, unix, anyio.create_task_group() as serving:
            serving.start_soon(plain.serve, partial(upgrade, context=server_context))
            serving.start_soon(tls.serve, echo)
            serving.start_soon(unix.serve, echo)
            async with anyio.create_task_group() as clients:
                for _ in range(10):
                    clients.start_soon(tls_client, below.extra(SocketAttribute.local_port), context)
                    clients.start_soon(upgrading_client, plain.extra(SocketAttribute.local_port), context)
                    clients.start_soon(unix_client, path)
            serving.cancel_scope.cancel()
    await datagrams()
    print(type(asyncio.get_running_loop()).__module__)


anyio.run(main, backend_options={"loop_factory": epoll_loop.new_event_loop})
