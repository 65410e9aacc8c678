"""Threads that call the loop and that it calls, and signals: as many run as were sent, those of a thread in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from random import Random

from reliability.soak.content import content, digest, same
from reliability.soak.work import work
from reliability.soak.world import World

THREADS, CALLS = 3, 100


@work(1)
async def call_soon(world: World, random: Random) -> None:
    """call_soon_threadsafe() from several threads."""
    loop = asyncio.get_running_loop()
    ran: list[list[int]] = [[] for _ in range(THREADS)]
    over = asyncio.Event()
    rests = [[random.choice((0, 0, 0, 0.0001, 0.001)) for _ in range(CALLS)] for _ in range(THREADS)]

    def run(thread: int, number: int) -> None:
        ran[thread].append(number)
        if sum(map(len, ran)) == THREADS * CALLS:
            over.set()

    def send(thread: int) -> None:
        for number, rest in enumerate(rests[thread]):
            loop.call_soon_threadsafe(run, thread, number)
            if rest:
                time.sleep(rest)

    async with world.record.request("thread calls"):
        threads = [threading.Thread(target=send, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        await over.wait()
        for thread in threads:
            thread.join()
        same(ran, [list(range(CALLS))] * THREADS, "calls from threads")
        world.record.tallies["calls from threads"] += THREADS * CALLS


def _work(seed: float) -> str:
    time.sleep(seed / 100)
    return digest(content(seed, 10_000))


@work(1)
async def executor(world: World, random: Random) -> None:
    """run_in_executor() and to_thread(): every call has its own result."""
    loop = asyncio.get_running_loop()
    async with world.record.request("thread executor"):
        seeds = [random.random() for _ in range(8)]
        calls = [loop.run_in_executor(None, _work, seed) for seed in seeds[:4]]
        calls += [asyncio.ensure_future(asyncio.to_thread(_work, seed)) for seed in seeds[4:]]
        same(await asyncio.gather(*calls), [digest(content(seed, 10_000)) for seed in seeds], "results of threads")


@contextlib.contextmanager
def handling(world: World) -> Iterator[None]:
    """Have a handler of SIGUSR1 that counts."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, world.handled.release)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)


@work(1)
async def signals(world: World, random: Random) -> None:
    """Each SIGUSR1 is handled before the next is sent: two of them at once would be one."""
    async with world.record.request("signal"):
        os.kill(os.getpid(), signal.SIGUSR1)
        await world.handled.acquire()
        same(world.handled.locked(), True, "no signal more than was sent")
