"""One run from its beginning to its end: servers, work and faults together, then everything is shut down."""

from __future__ import annotations

import asyncio
import signal
import tracemalloc
from collections.abc import Callable

import aiohttp

# Most of them enter their work or their faults, and no more.
from reliability.soak import (  # noqa: F401
    cancel,
    children,
    clients,
    complaints,
    flood,
    garbage,
    sockets,
    stall,
    threads,
    timers,
    vanish,
)
from reliability.soak.content import LIMIT
from reliability.soak.held import Held
from reliability.soak.servers import serving
from reliability.soak.work import start_all
from reliability.soak.world import World

EVERY = 0.5  # seconds from one look at what is held to the next


async def soak(world: World, held: Held, show: Callable[[float], None]) -> None:
    """Run for as long as the world says."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, world.stop.set)  # Ctrl+C: the counts of what there was
    loop.slow_callback_duration = LIMIT  # in debug mode: how fast the machine is does not matter
    complaints.handle(world.record)
    with threads.handling(world):
        async with serving(world):
            connector = aiohttp.TCPConnector(ssl=world.client_context)
            async with aiohttp.ClientSession(connector=connector) as world.session, asyncio.TaskGroup() as group:
                group.create_task(_watch(world, held, show))
                group.create_task(_apart(world))
                start_all(group, world)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=LIMIT)
    for task in others:
        world.record.check(task.done(), f"a task is left: {task.get_coro()!r}")


async def _watch(world: World, held: Held, show: Callable[[float], None]) -> None:
    """Look at what is held, show how it goes, and end the run when it is time."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    while (elapsed := loop.time() - begin) < world.seconds and not world.stop.is_set():
        held.look(elapsed)
        if tracemalloc.is_tracing() and elapsed >= held.warm and held.snapshot is None:
            held.snapshot = tracemalloc.take_snapshot()
        show(elapsed)
        await world.rest(EVERY)
    if held.snapshot is not None:
        held.grown = tracemalloc.take_snapshot().compare_to(held.snapshot, "lineno")[:15]
    world.stop.set()


async def _apart(world: World) -> None:
    async with children.blocking_clients(world):
        await world.stop.wait()
