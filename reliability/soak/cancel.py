"""Tasks that are cancelled at random points."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE
from random import Random

import aiohttp

from reliability.soak.children import start
from reliability.soak.clients import KINDS, echo_stream
from reliability.soak.content import LIMIT, content, same
from reliability.soak.fault import GONE, Fault, fault
from reliability.soak.line import connected
from reliability.soak.world import World


async def _http(world: World, fault: Fault, random: Random) -> None:
    connector = aiohttp.TCPConnector(ssl=world.client_context, local_addr=(fault.address, 0))
    async with aiohttp.ClientSession(connector=connector) as session:
        for kind in random.sample(list(KINDS), len(KINDS)):
            await KINDS[kind](session, world, random.choice(("http", "https")), random)


async def _stream(world: World, fault: Fault, random: Random) -> None:
    await echo_stream(world, random.choice(("tcp", "tls")), random, local_addr=(fault.address, 0))


async def _sock(world: World, fault: Fault, random: Random) -> None:
    async with connected(world, fault, random.choice(("tcp", "unix"))) as line:
        data = content(random.random(), 100_000)
        await line.send(data)
        same(await line.receive(len(data)), data, "echo")


async def _child(world: World, fault: Fault, random: Random) -> None:
    process = await start("cat", stdin=PIPE, stdout=PIPE)
    try:
        data = content(random.random(), 100_000)
        same((await process.communicate(data))[0], data, "what cat says")
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def _wait(world: World, fault: Fault, random: Random) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(LIMIT):
        await asyncio.gather(
            asyncio.sleep(random.random() / 10),
            loop.run_in_executor(None, content, 1, 100),
            loop.getaddrinfo("127.0.0.1", 80),
        )


@fault("cancel", server=GONE)
async def cancel(world: World, fault: Fault, random: Random) -> None:
    """Start something that is well, and cancel it after some turns of the loop, or after some time."""
    begin = random.choice((_http, _stream, _sock, _child, _wait))
    task = asyncio.create_task(begin(world, fault, random))
    if random.random() < 0.5:
        for _ in range(random.randrange(30)):
            await asyncio.sleep(0)
    else:
        await asyncio.sleep(random.uniform(0, 0.05))
    cancelled = task.cancel()
    await asyncio.wait([task])
    world.record.tallies["tasks cancelled in their midst"] += cancelled
    if not task.cancelled():
        task.result()  # it was faster
