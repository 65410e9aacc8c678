"""What a loop does without a socket, COUNT times: ``python -m benchmarks.micro ROW COUNT --loop NAME``.

Made to be counted from outside (see instructions.py): a workload does its operations and nothing more.
"""

from __future__ import annotations

import argparse
import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Callable

from benchmarks.loops import LOOPS, new_event_loop

AT_A_TIME = 1000  # callbacks
TASKS = 100  # of one gather
PENDING = 20_000  # timers


def nothing() -> None:
    pass


def chain(loop: AbstractEventLoop, count: int) -> None:
    """A callback that schedules itself again: one callback an iteration."""

    def again(left: int) -> None:
        if left:
            loop.call_soon(again, left - 1)
        else:
            loop.stop()

    loop.call_soon(again, count)
    loop.run_forever()


def call_soon(loop: AbstractEventLoop, count: int) -> None:
    """1,000 callbacks an iteration; the last one schedules the next thousand."""

    def thousand(left: int) -> None:
        if left <= 0:
            loop.stop()
            return
        for _ in range(AT_A_TIME - 1):
            loop.call_soon(nothing)
        loop.call_soon(thousand, left - AT_A_TIME)

    loop.call_soon(thousand, count)
    loop.run_forever()


def sleep(loop: AbstractEventLoop, count: int) -> None:
    """asyncio.sleep(0) in one task."""

    async def main() -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    loop.run_until_complete(main())


def gather(loop: AbstractEventLoop, count: int) -> None:
    """`count` tasks, gathered a hundred at a time; each of them gives way once."""

    async def task() -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        for _ in range(count // TASKS):
            await asyncio.gather(*(task() for _ in range(TASKS)))

    loop.run_until_complete(main())


def cancel(loop: AbstractEventLoop, count: int) -> None:
    """Timers that never fire: what a server does with nearly all of its time-outs."""
    for _ in range(count):
        loop.call_later(60, nothing).cancel()
    loop.run_until_complete(asyncio.sleep(0))


def timers(loop: AbstractEventLoop, count: int) -> None:
    """20,000 timers pending at once, then all of them fire, again and again.

    They are due within a millisecond, so that no loop has to wait.
    """
    for _ in range(count // PENDING):
        for number in range(PENDING):
            loop.call_later(number % 100 * 1e-5, nothing)
        loop.call_later(0.01, loop.stop)
        loop.run_forever()


WORKLOADS: dict[str, Callable[[AbstractEventLoop, int], None]] = {
    "chain": chain,
    "call_soon": call_soon,
    "sleep": sleep,
    "gather": gather,
    "cancel": cancel,
    "timers": timers,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro", description=__doc__)
    parser.add_argument("row", choices=WORKLOADS)
    parser.add_argument("count", type=int, help="operations; a whole number of the workload's rounds")
    parser.add_argument("--loop", choices=LOOPS, required=True)
    arguments = parser.parse_args()
    loop = new_event_loop(arguments.loop)
    asyncio.set_event_loop(loop)
    WORKLOADS[arguments.row](loop, arguments.count)
    loop.close()


if __name__ == "__main__":
    main()
