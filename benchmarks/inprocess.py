"""What needs no load generator: ``python -m benchmarks.inprocess WORKLOAD --loop NAME``.

Prints a line when it is ready. Then every line on stdin, a number of seconds, runs the workload for about
that long and prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from time import perf_counter

from benchmarks.loops import LOOPS, new_event_loop

SLEEP = 0.0003

Workload = Callable[[float], Awaitable[dict[str, float]]]


async def sleep(seconds: float) -> dict[str, float]:
    """How much longer than asked for asyncio.sleep(0.0003) takes; below zero it woke up early."""
    overshoot = []
    end = perf_counter() + seconds
    while (began := perf_counter()) < end:
        await asyncio.sleep(SLEEP)
        overshoot.append((perf_counter() - began - SLEEP) * 1e6)
    return {"overshoot_us": sum(overshoot) / len(overshoot), "earliest_us": min(overshoot)}


async def pairs(seconds: float) -> dict[str, float]:
    """Both ends in one loop: connect, accept, abort both, wait until both have lost their connection."""

    class End(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)
            if len(made) == 2:
                for each in made:
                    each.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            made.pop()
            if not made:
                gone.set_result(None)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(End, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    made: list[asyncio.BaseTransport] = []
    requests = 0
    began = perf_counter()
    while perf_counter() < began + seconds:
        gone = loop.create_future()
        await loop.create_connection(End, "127.0.0.1", port)
        await gone
        requests += 1
    taken = perf_counter() - began
    server.close()
    await server.wait_closed()
    return {"requests": requests, "seconds": taken}


def spawns(at_a_time: int) -> Workload:
    async def spawn(end: float) -> int:
        number = 0
        while perf_counter() < end:
            process = await asyncio.create_subprocess_exec("/bin/true")
            if await process.wait():
                raise RuntimeError(f"/bin/true ends with status {process.returncode}")
            number += 1
        return number

    async def workload(seconds: float) -> dict[str, float]:
        """Children without pipes, `at_a_time` of them; each is waited for before the next one."""
        began = perf_counter()
        numbers = await asyncio.gather(*(spawn(began + seconds) for _ in range(at_a_time)))
        return {"requests": sum(numbers), "seconds": perf_counter() - began}

    return workload


WORKLOADS: dict[str, Workload] = {"sleep": sleep, "pairs": pairs, "spawns": spawns(1), "spawns8": spawns(8)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inprocess", description=__doc__)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--loop", choices=LOOPS, required=True)
    arguments = parser.parse_args()
    loop = new_event_loop(arguments.loop)
    asyncio.set_event_loop(loop)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(loop.run_until_complete(WORKLOADS[arguments.workload](float(line)))), flush=True)
    loop.close()


if __name__ == "__main__":
    main()
