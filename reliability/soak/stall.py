"""Clients that stall: they send nothing, half of it, or do not read; for a while or for good."""

from __future__ import annotations

from random import Random

from reliability.soak.content import FILE_SIZE, MB, content, digest, get, same
from reliability.soak.fault import GONE, Fault, fault
from reliability.soak.line import client_hello, connected
from reliability.soak.world import World

STREAM = 2 * MB  # that is more than all buffers on the way hold


@fault("stall without a word", GONE, GONE)
async def silent(world: World, fault: Fault, random: Random) -> None:
    """Connect, and send nothing: the client ends it, or the server that has waited for long enough."""
    place = random.choice(("tcp", "tls", "http", "https", "unix", "impatient"))
    async with connected(world, fault, place, bare=True) as line:
        if place == "impatient":
            same(await line.until_end(), b"", "what the server says to the silent")
        else:
            await world.rest(world.stall(random))


@fault("stall in a handshake", GONE, GONE)
async def in_handshake(world: World, fault: Fault, random: Random) -> None:
    """The server gives up a handshake that takes too long."""
    hello = client_hello(world.client_context)
    async with connected(world, fault, "impatient tls") as line:
        await line.send(hello[: random.choice((0, 1, len(hello) // 2, len(hello)))])
        await line.until_end()


@fault("stall in a request", server=GONE)
async def in_request(world: World, fault: Fault, random: Random) -> None:
    """Half a request, and after a while the other half: it is answered; or none, and the client goes."""
    data = content(random.random(), 200_000)
    request = f"POST /echo HTTP/1.1\r\nHost: soak\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
    part = random.choice((random.randrange(1, 50), random.randrange(len(request))))
    async with connected(world, fault, random.choice(("http", "https"))) as line:
        await line.send(request[:part])
        await world.rest(world.stall(random))
        if random.random() < 0.7:
            await line.send(request[part:])
            head = await line.head()
            same(head[:12], b"HTTP/1.1 200", "status")
            same(digest(data).encode() in head, True, "digest")
            same(await line.receive(len(data)), data, "body")


@fault("stall before reading")
async def before_reading(world: World, fault: Fault, random: Random) -> None:
    """An answer waits for a while until it is read: all of it is there."""
    place = random.choice(("file", "stream"))
    async with connected(world, fault, random.choice(("http", "https"))) as line:
        if place == "file":
            await line.send(get("/file", "Connection: close"))
            right = content("file", FILE_SIZE)
        else:
            seed = random.random()
            await line.send(get(f"/stream?seed={seed}&size={STREAM}", "Connection: close"))
            right = content(seed, STREAM)
        await world.rest(world.stall(random))
        head, _, body = (await line.until_end()).partition(b"\r\n\r\n")
        same(head[:12], b"HTTP/1.1 200", "status")
        same(_unchunked(body) if b"chunked" in head else body, right, "body")


def _unchunked(body: bytes) -> bytes:
    parts: list[bytes] = []
    at = 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(body[end + 2 : end + 2 + size])
        at = end + size + 4


@fault("stall for good", server=GONE)
async def for_good(world: World, fault: Fault, random: Random) -> None:
    """An answer that is never read, until the client goes."""
    path = random.choice(("/file", f"/stream?seed=0&size={STREAM}"))
    async with connected(world, fault, random.choice(("http", "https"))) as line:
        await line.send(get(path))
        await line.receive(random.choice((1, 100_000)))
        await world.rest(world.stall(random))
        if random.random() < 0.5:
            line.reset()
