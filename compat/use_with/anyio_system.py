"""anyio: subprocesses, signals, worker threads that call back, a portal, cancellation."""

import asyncio
import os
import signal
import sys

import anyio
from anyio import from_thread, to_thread
from anyio.streams.text import TextReceiveStream

import epoll_loop

MIB = os.urandom(2**20)
OPTIONS = {"loop_factory": epoll_loop.new_event_loop}


async def processes() -> None:
    done = await anyio.run_process(["cat"], input=MIB)
    assert done.stdout == MIB
    async with await anyio.open_process([sys.executable, "-c", "for i in range(1000): print(i)"]) as process:
        assert process.stdout is not None
        text = "".join([piece async for piece in TextReceiveStream(process.stdout)])
        assert text.split() == [str(i) for i in range(1000)]
    assert process.returncode == 0
    with anyio.move_on_after(0.05) as scope:
        await anyio.run_process(["sleep", "60"])  # cancelled, it is killed and waited for
    assert scope.cancelled_caught


async def signals() -> None:
    with anyio.open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as received:
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            os.kill(os.getpid(), number)
            assert await anext(received) == number


async def double(number: int) -> int:
    await anyio.sleep(0)
    return 2 * number


def in_thread(number: int) -> int:
    """From a worker thread to the loop and back."""
    return from_thread.run(double, number) + from_thread.run_sync(abs, -number)


async def threads() -> None:
    results = {}

    async def one(number: int) -> None:
        results[number] = await to_thread.run_sync(in_thread, number)

    async with anyio.create_task_group() as tasks:
        for number in range(200):
            tasks.start_soon(one, number)
    assert results == {number: 3 * number for number in range(200)}


def portal() -> None:
    """A loop in a thread of its own, for a program that has none."""
    with from_thread.start_blocking_portal(backend_options=OPTIONS) as portal:
        futures = [portal.start_task_soon(double, number) for number in range(100)]
        assert [future.result() for future in futures] == [2 * number for number in range(100)]
        assert portal.call(in_loop) == LOOP


async def in_loop() -> str:
    return type(asyncio.get_running_loop()).__module__


async def main() -> str:
    await processes()
    await signals()
    await threads()
    return await in_loop()


LOOP = anyio.run(main, backend_options={"loop_factory": epoll_loop.new_event_loop})
portal()
print(LOOP)
