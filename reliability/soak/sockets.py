"""The coroutines on sockets, and names."""

from __future__ import annotations

import asyncio
import socket
from random import Random

from reliability.soak.content import content, same
from reliability.soak.line import Line
from reliability.soak.work import work
from reliability.soak.world import World


async def _serve_one(listening: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    sock, _ = await loop.sock_accept(listening)
    with sock:
        buffer = bytearray(65536)
        while count := await loop.sock_recv_into(sock, buffer):
            await loop.sock_sendall(sock, buffer[:count])


@work(1)
async def sock(world: World, random: Random) -> None:
    """A server and its client, both of them coroutines on sockets."""
    loop = asyncio.get_running_loop()
    async with world.record.request("sock_* over TCP"):
        data = content(random.random(), random.randrange(1, 300_000))
        with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as client:
            listening.setblocking(False)
            client.setblocking(False)
            async with asyncio.TaskGroup() as group:
                group.create_task(_serve_one(listening))
                await loop.sock_connect(client, listening.getsockname())
                group.create_task(loop.sock_sendall(client, data))
                same(await Line(client).receive(len(data)), data, "answer")
                client.shutdown(socket.SHUT_WR)
                same(await loop.sock_recv(client, 1), b"", "after the end")
    async with world.record.request("sock_* over UDP"):
        data = content(random.random(), random.randrange(1, 8000))
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.bind(("127.0.0.1", 0))
            await loop.sock_sendto(client, data, world.places["udp"])
            same(await loop.sock_recvfrom(client, 65536), (data, world.places["udp"]), "datagram")


@work(1)
async def names(world: World, random: Random) -> None:
    """Look up what every machine knows."""
    loop = asyncio.get_running_loop()
    async with world.record.request("getaddrinfo"):
        found = await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
        same(found[0][4], ("127.0.0.1", 80), "address")
        found = await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
        same({info[4][0] for info in found} <= {"127.0.0.1", "::1"}, True, f"addresses of localhost: {found}")
        name = await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
        same(name, ("127.0.0.1", "80"), "name")
    await world.rest(random.random())
