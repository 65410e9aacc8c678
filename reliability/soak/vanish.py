"""Clients that vanish: with an RST, without reading, in the middle of things, or killed."""

from __future__ import annotations

import asyncio
from random import Random

from reliability.soak.children import start_blocking_clients
from reliability.soak.content import MB, content, frame, get, same, upgrade
from reliability.soak.fault import GONE, Fault, fault
from reliability.soak.line import Line, client_hello, connected
from reliability.soak.world import World


async def _go(line: Line, random: Random) -> None:
    """Close or reset, at once or after a moment."""
    await asyncio.sleep(random.choice((0, 0, 0.01)))
    random.choice((line.close, line.reset))()


@fault("vanish with an RST", server=GONE)
async def with_rst(world: World, fault: Fault, random: Random) -> None:
    """Some bytes for an echo, or none, and an RST."""
    async with connected(world, fault, random.choice(("tcp", "tls", "unix"))) as line:
        await line.send(content(random.random(), random.choice((0, 1, 50_000))))
        await asyncio.sleep(random.choice((0, 0.01)))
        line.reset()


@fault("vanish without reading", server=GONE)
async def unread(world: World, fault: Fault, random: Random) -> None:
    """An answer that nobody reads: the kernel sends an RST for it."""
    place = random.choice(("tcp", "tls", "http", "https"))
    async with connected(world, fault, place) as line:
        await line.send(get(f"/stream?seed=0&size={2 * MB}") if place.startswith("http") else bytes(50_000))
        await asyncio.sleep(random.uniform(0, 0.02))


@fault("vanish in a request", server=GONE)
async def in_request(world: World, fault: Fault, random: Random) -> None:
    """A part of the head or of the body."""
    request = b"POST /echo HTTP/1.1\r\nHost: soak\r\nContent-Length: 1000000\r\n\r\n"
    async with connected(world, fault, random.choice(("http", "https"))) as line:
        size = random.choice((random.randrange(1, len(request)), len(request), 100_000))
        await line.send(request[:size].ljust(size, b"x"))
        await _go(line, random)


@fault("vanish in a handshake", server=GONE)
async def in_handshake(world: World, fault: Fault, random: Random) -> None:
    """A part of a ClientHello, or the whole, and no more."""
    hello = client_hello(world.client_context)
    async with connected(world, fault, random.choice(("https", "tls")), bare=True) as line:
        await line.send(hello[: random.choice((0, random.randrange(len(hello)), len(hello)))])
        await _go(line, random)


@fault("vanish in a frame", server=GONE)
async def in_frame(world: World, fault: Fault, random: Random) -> None:
    """A part of a WebSocket's message."""
    message = frame(content(random.random(), 50_000), b"mask")
    async with connected(world, fault, random.choice(("http", "https"))) as line:
        await line.send(upgrade(random.randbytes(16)))
        same((await line.head())[:12], b"HTTP/1.1 101", "status")
        await line.send(message[: random.choice((1, 2, 5, random.randrange(len(message))))])
        await _go(line, random)


@fault("kill", server=GONE)
async def kill(world: World, fault: Fault, random: Random) -> None:
    """A process of clients is killed in the midst of its work."""
    process = await start_blocking_clients(world, "--fault", str(fault.number), "--seed", str(random.random()))
    assert process.stdout
    await process.stdout.readline()  # it is at work
    await asyncio.sleep(random.uniform(0, 0.2))
    process.kill()
    same(await process.wait(), -9, "how the killed clients end")
    await process.communicate()
