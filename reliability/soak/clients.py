"""Good clients in the loop: aiohttp's, streams over TCP, TLS and a Unix socket, and UDP. They check every byte."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import aiohttp

from reliability.soak.content import FILE_SIZE, MB, content, digest, same
from reliability.soak.work import work
from reliability.soak.world import World


async def fetch_json(session: aiohttp.ClientSession, world: World, scheme: str, random: Random) -> None:
    """Ask for a small answer."""
    seed = str(random.random())
    async with session.get(world.url(scheme, "/json"), params={"seed": seed}) as response:
        same(await response.json(), {"seed": seed, "digest": digest(content(seed, 1000))}, "JSON")


async def fetch_echo(session: aiohttp.ClientSession, world: World, scheme: str, random: Random) -> None:
    """Send a body and have it come back."""
    data = content(random.random(), MB)
    async with session.post(world.url(scheme, "/echo"), data=data) as response:
        same(response.headers["X-Digest"], digest(data), "digest of the body")
        same(await response.read(), data, "body")


async def fetch_stream(session: aiohttp.ClientSession, world: World, scheme: str, random: Random) -> None:
    """Ask for an answer in chunks."""
    seed, size = str(random.random()), random.randrange(MB)
    async with session.get(world.url(scheme, "/stream"), params={"seed": seed, "size": size}) as response:
        same(await response.read(), content(seed, size), "stream")


async def fetch_file(session: aiohttp.ClientSession, world: World, scheme: str, random: Random) -> None:
    """Ask for a file, or for a part of it."""
    start = random.choice((0, random.randrange(FILE_SIZE)))
    async with session.get(world.url(scheme, "/file"), headers={"Range": f"bytes={start}-"}) as response:
        same(await response.read(), content("file", FILE_SIZE)[start:], "file")


async def talk(session: aiohttp.ClientSession, world: World, scheme: str, random: Random) -> None:
    """Say something over a WebSocket, several messages before the first answer."""
    async with session.ws_connect(world.url(scheme.replace("http", "ws"), "/ws"), max_msg_size=MB) as ws:
        for _ in range(3):
            messages = [content(random.random(), random.randrange(30_000)) for _ in range(4)]
            for message in messages:
                await ws.send_bytes(message)
            for message in messages:
                same(await ws.receive_bytes(), message, "message")


KINDS = {"json": fetch_json, "echo": fetch_echo, "stream": fetch_stream, "file": fetch_file, "websocket": talk}


@work(3)
async def http(world: World, random: Random) -> None:
    """All kinds, on connections that are kept, or on a new one."""
    for kind in random.sample(list(KINDS), len(KINDS)):
        scheme = random.choice(("http", "https"))
        async with world.record.request(f"{scheme} {kind}"):
            if random.random() < 0.8:
                await KINDS[kind](world.session, world, scheme, random)
            else:
                connector = aiohttp.TCPConnector(ssl=world.client_context)
                async with aiohttp.ClientSession(connector=connector) as session:
                    await KINDS[kind](session, world, scheme, random)


async def open_stream(world: World, place: str, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to an echo."""
    if place == "unix":
        return await asyncio.open_unix_connection(world.places[place])
    if place == "tls":
        options["ssl"] = world.client_context
    return await asyncio.open_connection("127.0.0.1", world.port(place), **options)


async def echo_stream(world: World, place: str, random: Random, **options: Any) -> None:
    """Send pieces to an echo while the answer is read, in the end also the end of it."""
    data = content(random.random(), random.randrange(1, 500_000))
    reader, writer = await open_stream(world, place, **options)
    try:
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(reader.readexactly(len(data)))
            start = 0
            while start < len(data):
                end = start + random.choice((1, 100, 10_000, 100_000))
                writer.write(data[start:end])
                if random.random() < 0.7:
                    await writer.drain()
                start = end
        same(answer.result(), data, "echo")
        if writer.can_write_eof():
            writer.write_eof()
            same(await reader.read(), b"", "after the end")
    finally:
        writer.close()
    await writer.wait_closed()


@work(2)
async def streams(world: World, random: Random) -> None:
    """An echo over each kind of stream."""
    for place in random.sample(("tcp", "tls", "unix"), 3):
        async with world.record.request(f"{place} echo"):
            await echo_stream(world, place, random)


class Datagrams(asyncio.DatagramProtocol):
    """Keeps what arrives."""

    def __init__(self) -> None:
        self.arrived: asyncio.Queue[bytes] = asyncio.Queue()
        self.errors: asyncio.Queue[Exception] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.arrived.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        self.errors.put_nowait(exc)


@work(2)
async def udp(world: World, random: Random) -> None:
    """Datagrams with an answer each, some of them on their way at the same time: few enough for every buffer."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, remote_addr=world.places["udp"])
    try:
        for _ in range(5):
            async with world.record.request("udp echo"):
                messages = [content(random.random(), random.randrange(1, 4000)) for _ in range(4)]
                for message in messages:
                    transport.sendto(message)
                for message in messages:
                    same(await protocol.arrived.get(), message, "datagram")
    finally:
        transport.close()
