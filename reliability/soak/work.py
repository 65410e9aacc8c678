"""Who does the work, in rounds until the run is over, and who puts in the faults."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from reliability.soak.fault import FAULTS, Fault
from reliability.soak.world import World

PAUSE = 0.1  # seconds between two rounds at most: the load is moderate, not the most that the machine can

Round = Callable[[World, Random], Awaitable[None]]
WORK: dict[str, tuple[Round, int]] = {}


def work(number: int) -> Callable[[Round], Round]:
    """Enter a coroutine function that does a round of good work, for so many workers."""

    def enter(run: Round) -> Round:
        WORK[f"{run.__module__}.{run.__name__}"] = run, number
        return run

    return enter


# How many put in the faults of a group, and the most seconds between one and the next.
GROUPS = {
    "vanish": (2, 0.2),
    "kill": (1, 6.0),  # Python takes its time to start
    "stall": (6, 0.2),
    "flood": (1, 1.0),
    "garbage": (1, 0.2),
    "closed": (1, 0.2),
    "cancel": (2, 0.2),
}


async def work_on(world: World, name: str, run: Round, number: int) -> None:
    """Do rounds until the run is over."""
    random = Random(f"{world.seed} {name} {number}")
    while not world.stop.is_set():
        try:
            await run(world, random)
        except Exception as exc:
            world.record.lose(f"{name}: {exc!r}")
        await world.rest(random.uniform(0, PAUSE))


async def disturb(world: World, faults: list[Fault], pause: float, number: int) -> None:
    """Put in the faults of a group in turn, in another order each time, all of them once also on a slow machine."""
    random = Random(f"{world.seed} {faults[0].group} {number}")
    turns = random.sample(faults, len(faults))
    while turns:
        fault = turns.pop()
        async with world.record.fault(fault):
            await fault.run(world, fault, random)
        await world.rest(random.uniform(0, pause))
        if not turns and not world.stop.is_set():
            turns = random.sample(faults, len(faults))


def start_all(group: asyncio.TaskGroup, world: World) -> None:
    """Start all workers."""
    for name, (run, workers) in WORK.items():
        for number in range(workers):
            group.create_task(work_on(world, name, run, number), name=f"{name} {number}")
    for name, (workers, pause) in GROUPS.items():
        faults = [fault for fault in FAULTS.values() if fault.group == name]
        for number in range(workers):
            group.create_task(disturb(world, faults, pause, number), name=f"{name} {number}")
