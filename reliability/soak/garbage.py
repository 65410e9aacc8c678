"""What is no HTTP and no TLS, and what is sent where nobody listens."""

from __future__ import annotations

import asyncio
from random import Random

from reliability.soak.clients import Datagrams
from reliability.soak.content import Wrong, content, get, same
from reliability.soak.fault import GONE, Fault, fault
from reliability.soak.line import client_hello, connected
from reliability.soak.world import World


@fault("garbage instead of HTTP", GONE, GONE)
async def not_http(world: World, fault: Fault, random: Random) -> None:
    """Bytes of all kinds: the server says 400, and closes."""
    garbage = random.choice((content(random.random(), 1000), client_hello(world.client_context))) + b"\r\n\r\n"
    async with connected(world, fault, random.choice(("http", "https"))) as line:
        await line.send(garbage)
        same((await line.until_end())[:12] in (b"", b"HTTP/1.0 400", b"HTTP/1.1 400"), True, "400 or nothing")


@fault("garbage instead of TLS", GONE, GONE)
async def not_tls(world: World, fault: Fault, random: Random) -> None:
    """Bytes of all kinds, or plain HTTP: the server closes, after an alert at most."""
    # Not by chance the head of a long record, whose rest OpenSSL would wait for: there is no type and no version 0.
    garbage = random.choice((b"\0\0" + content(random.random(), 1000), get("/json?seed=1")))
    async with connected(world, fault, random.choice(("https", "tls")), bare=True) as line:
        await line.send(garbage)
        same(len(await line.until_end()) < 10, True, "an alert or nothing")


@fault("closed port", ("ConnectionRefusedError", "FileNotFoundError"))
async def closed(world: World, fault: Fault, random: Random) -> None:
    """Nobody listens: the connection is refused, by each way to make one, and so is a datagram."""
    way = random.choice(("stream", "sock", "unix", "udp"))
    if way == "stream":
        await asyncio.open_connection("127.0.0.1", world.port("closed"), local_addr=(fault.address, 0))
    elif way == "sock":
        async with connected(world, fault, "closed"):
            pass
    elif way == "udp":
        transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
            Datagrams, local_addr=(fault.address, 0), remote_addr=world.places["closed udp"]
        )
        try:
            transport.sendto(b"to nobody")
            raise await protocol.errors.get()
        finally:
            transport.close()
    else:
        await asyncio.open_unix_connection(str(world.folder / "nobody"))
    raise Wrong("connected where nobody listens")
