"""Clients that flood: with connections, requests, datagrams, and with bytes whose echo they do not read."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from random import Random

from reliability.soak.content import MB, content, digest, get, same
from reliability.soak.fault import GONE, Fault, fault
from reliability.soak.line import connected
from reliability.soak.world import World

CONNECTIONS, REQUESTS, DATAGRAMS = 100, 200, 1000
UNREAD = 3 * MB  # that is more than all buffers on the way hold


@fault("flood of connections")
async def connections(world: World, fault: Fault, random: Random) -> None:
    """Many at the same time, and each of them is served."""

    async def one(number: int) -> None:
        place = ("tcp", "unix", "http")[number % 3]
        async with connected(world, fault, place) as line:
            if place == "http":
                await line.send(get("/json?seed=1", "Connection: close"))
                same((await line.until_end()).endswith(b"}"), True, "JSON is whole")
            else:
                data = content(number, 1000)
                await line.send(data)
                same(await line.receive(len(data)), data, "echo")

    async with asyncio.TaskGroup() as group:
        for number in range(CONNECTIONS):
            group.create_task(one(number))


@fault("flood of requests")
async def requests(world: World, fault: Fault, random: Random) -> None:
    """Many on one connection before the first answer is read, and all answers come, in order."""
    async with connected(world, fault, random.choice(("http", "https"))) as line:
        seeds = [str(random.random()) for _ in range(REQUESTS)]
        text = b"".join(get(f"/json?seed={seed}") for seed in seeds[:-1])
        sending = asyncio.create_task(line.send(text + get(f"/json?seed={seeds[-1]}", "Connection: close")))
        answers = (await line.until_end()).decode()
        await sending
        same(answers.count("HTTP/1.1 200"), REQUESTS, "number of answers")
        at = 0
        for seed in seeds:
            at = answers.find(f'{{"seed": "{seed}", "digest": "{digest(content(seed, 1000))}"}}', at)
            same(at >= 0, True, "an answer in its place")


@fault("flood of datagrams")
async def datagrams(world: World, fault: Fault, random: Random) -> None:
    """More than the buffers hold: some are lost, and what arrives is as it was sent, in order."""
    loop = asyncio.get_running_loop()
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind((fault.address, 0))
        sock.connect(world.places["udp flood"])
        sent = [number.to_bytes(4, "big") + content(number, 1000) for number in range(DATAGRAMS)]
        for data in sent:
            sock.send(data)
        world.record.tallies["datagrams of floods sent"] += len(sent)
        arrived: list[bytes] = []
        with contextlib.suppress(TimeoutError):
            while len(arrived) < len(sent):
                async with asyncio.timeout(0.5):
                    arrived.append(await loop.sock_recv(sock, 65536))
        world.record.tallies["datagrams of floods lost"] += len(sent) - len(arrived)
        numbers = [int.from_bytes(data[:4], "big") for data in arrived]
        same(numbers, sorted(set(numbers)), "order of datagrams")
        same(arrived, [sent[number] for number in numbers], "datagrams")


@fault("flood without reading", server=GONE)
async def without_reading(world: World, fault: Fault, random: Random) -> None:
    """Bytes for an echo until it takes no more; then its answer is read, and is whole, or the client goes."""
    place = random.choice(("tcp", "tls", "unix"))
    data = content(random.random(), UNREAD)
    async with connected(world, fault, place) as line:
        sending = asyncio.create_task(line.send(data))
        done, _ = await asyncio.wait([sending], timeout=0.3)
        world.record.check(not done, "an echo takes more than the buffers on the way hold")
        if random.random() < 0.7:
            same(await line.receive(len(data)), data, "echo")
            await sending
        else:
            sending.cancel()
            await asyncio.wait([sending])
            line.reset()
