"""Subprocesses: a conversation with cat, ends of all kinds, and the processes of blocking clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from random import Random
from typing import Any

from reliability.soak.content import LIMIT, content, digest, same
from reliability.soak.record import APART
from reliability.soak.work import work
from reliability.soak.world import World, environment


async def start(*command: str, **options: Any) -> Process:
    """Start a child that Ctrl+C does not reach."""
    return await asyncio.create_subprocess_exec(*command, start_new_session=True, env=environment(), **options)


async def start_blocking_clients(world: World, *options: str) -> Process:
    """Start a process of them; it says what it does on stdout, and ends with stdin."""
    places = repr(world.places)
    command = sys.executable, "-m", "reliability.soak.blocking", str(world.folder / "ca.pem"), places, *options
    return await start(*command, stdin=PIPE, stdout=PIPE)


@work(1)
async def cat(world: World, random: Random) -> None:
    """What goes into a pipe comes out of the other, in turns and then all at once."""
    async with world.record.request("child cat"):
        process = await start("cat", stdin=PIPE, stdout=PIPE)
        assert process.stdin
        assert process.stdout
        for _ in range(5):
            data = content(random.random(), random.randrange(1, 60_000))
            process.stdin.write(data)
            same(digest(await process.stdout.readexactly(len(data))), digest(data), "what cat says")
        data = content(random.random(), random.randrange(1, 500_000))
        out, _ = await process.communicate(data)
        same(digest(out), digest(data), "what cat says in the end")
        same(process.returncode, 0, "how cat ends")


@work(1)
async def ends(world: World, random: Random) -> None:
    """Children that end by themselves or are killed, with what wait() says of each."""
    async with world.record.request("child that ends"):
        process = await start("/bin/true")
        same(await process.wait(), 0, "how true ends")
        number = random.randrange(1, 100)
        process = await asyncio.create_subprocess_shell(f"exit {number}", start_new_session=True)
        same(await process.wait(), number, "how the shell ends")
    async with world.record.request("child killed"):
        process = await start("sleep", "600")
        await asyncio.sleep(random.choice((0, 0.01)))
        number = random.choice((signal.SIGKILL, signal.SIGTERM))
        process.send_signal(number)
        same(await process.wait(), -number, "how the killed child ends")


async def _listen(world: World, process: Process) -> None:
    """Take over what blocking clients report, line by line."""
    assert process.stdout
    said = False
    async for line in process.stdout:
        report = json.loads(line)
        for kind, count in report["asked"].items():
            world.record.asked[kind, APART] += count
        for kind, count in report["answered"].items():
            world.record.answered[kind, APART] += count
        for kind, text in report["failed"]:
            world.record.fail(kind, APART, text)
        said = report["last"]
    world.record.check(said, "the process of blocking clients did not say its last line")


@contextlib.asynccontextmanager
async def blocking_clients(world: World) -> AsyncIterator[None]:
    """Have a process of clients that have no event loop; in the end it finishes what it has begun."""
    process = await start_blocking_clients(world, "--seed", str(world.seed))
    listening = asyncio.create_task(_listen(world, process))
    try:
        yield
    finally:
        assert process.stdin
        process.stdin.close()
        try:
            async with asyncio.timeout(2 * LIMIT):
                await listening
                same(await process.wait(), 0, "how the process of blocking clients ends")
        except Exception as exc:
            world.record.lose(f"blocking clients: {exc!r}")
            if process.returncode is None:
                process.kill()
