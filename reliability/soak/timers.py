"""Timers of random lengths, many of them cancelled: never early, none lost, equal ones in order."""

from __future__ import annotations

import asyncio
from random import Random

from reliability.soak.content import same
from reliability.soak.work import work
from reliability.soak.world import World

NUMBER = 100


@work(2)
async def handles(world: World, random: Random) -> None:
    """call_later() and call_at(): those that are scheduled fire or have been cancelled."""
    loop, record = asyncio.get_running_loop(), world.record
    fired: list[int] = []
    times: list[float] = []
    over = asyncio.Event()

    def fire(number: int) -> None:
        now = loop.time()
        record.check(now >= times[number], "a timer fires early")
        record.high("seconds that a timer was late", now - times[number])
        fired.append(number)
        if len(fired) + len(cancelled) == NUMBER:
            over.set()

    def cancel(number: int) -> None:
        if number not in fired and number not in cancelled:
            timers[number].cancel()
            cancelled.add(number)
            if len(fired) + len(cancelled) == NUMBER:
                over.set()

    cancelled: set[int] = set()
    timers: list[asyncio.TimerHandle] = []
    async with record.request("timer handles"):
        begin = loop.time()
        for number in range(NUMBER):
            when = begin + random.choice((0.0, 0.05, random.uniform(0, 0.5)))
            times.append(when)
            timers.append(loop.call_at(when, fire, number))
        for number in random.sample(range(NUMBER), NUMBER // 2):
            if random.random() < 0.5:
                cancel(number)
            else:
                loop.call_later(random.uniform(0, 0.5), cancel, number)
        await over.wait()
        same(set(fired) | cancelled, set(range(NUMBER)), "timers fired and cancelled")
        same(set(fired) & cancelled, set(), "timers fired though cancelled")
        same([times[number] for number in fired], sorted(times[number] for number in fired), "order of timers")
        for when in (begin, begin + 0.05):
            equal = [number for number in fired if times[number] == when]
            same(equal, sorted(equal), "order of equal timers")
        record.tallies["timers scheduled"] += NUMBER
        record.tallies["timers fired"] += len(fired)
        record.tallies["timers cancelled"] += len(cancelled)


@work(2)
async def waits(world: World, random: Random) -> None:
    """sleep() and timeout(): whichever is shorter ends it."""
    loop = asyncio.get_running_loop()
    async with world.record.request("timer sleeps"):
        long, short = random.uniform(0.2, 5), random.uniform(0, 0.1)
        begin = loop.time()
        same(await asyncio.sleep(short, "slept"), "slept", "sleep")
        same(loop.time() >= begin + short, True, "slept long enough")
        begin = loop.time()
        try:
            async with asyncio.timeout(short):
                await asyncio.sleep(long + 60)
            same("slept", "timed out", "timeout")
        except TimeoutError:
            same(loop.time() >= begin + short, True, "timed out not too early")
        task = asyncio.create_task(asyncio.sleep(long))
        await asyncio.sleep(short)
        task.cancel()
        same((await asyncio.gather(task, return_exceptions=True))[0].__class__, asyncio.CancelledError, "cancelled")
