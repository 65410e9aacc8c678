"""Happy Eyeballs version 2 (RFC 8305): several addresses, one connection, no waiting for the dead ones."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from epoll_loop.net.resolve import AddrInfo

T = TypeVar("T")


def interleave(infos: Iterable[AddrInfo], first_family_count: int) -> list[AddrInfo]:
    """Let the families alternate, after `first_family_count` addresses of the first one (section 4)."""
    families: dict[int, list[AddrInfo]] = {}
    for info in infos:
        families.setdefault(info[0], []).append(info)
    lists = list(families.values())
    head = lists[0][: first_family_count - 1] if first_family_count > 1 else []
    lists[0] = lists[0][len(head) :]
    rounds = itertools.zip_longest(*lists)
    return head + [info for infos in rounds for info in infos if info is not None]


async def race(
    attempts: Iterable[Callable[[], Coroutine[Any, Any, T]]], delay: float, discard: Callable[[T], object]
) -> T | None:
    """Return the result of the first attempt to succeed, or None when each has failed with OSError.

    An attempt starts `delay` seconds after the one before it, or as soon as that one fails (section 5). At
    the end, however it comes, the others are cancelled and waited for; a result that comes too late goes to
    `discard`. Other exceptions than OSError end the race and are raised.
    """
    loop = asyncio.get_running_loop()
    waiting = deque(attempts)
    tasks: list[asyncio.Task[T]] = []
    running: list[asyncio.Task[T]] | None
    winner: asyncio.Task[T] | None = None
    next_start = -math.inf
    result: T | None = None
    try:
        while True:
            if waiting and (loop.time() >= next_start or tasks[-1].done()):
                tasks.append(loop.create_task(waiting.popleft()()))
                next_start = loop.time() + delay
            winner = next((t for t in tasks if t.done() and not isinstance(t.exception(), OSError)), None)
            if winner is not None:
                tasks.remove(winner)
                result = winner.result()
                return result
            running = [task for task in tasks if not task.done()]
            if running:
                timeout = max(0.0, next_start - loop.time()) if waiting else None
                await asyncio.wait(running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            elif not waiting:
                return None
    finally:
        winner = running = None  # a task knows its exception, the exception this frame: no cycle
        try:
            await _call_off(tasks, discard)
        except BaseException:
            if result is not None:
                discard(result)  # nobody gets it any more
            raise


async def _call_off(tasks: list[asyncio.Task[T]], discard: Callable[[T], object]) -> None:
    """Cancel what still runs, and wait until nothing is left of it."""
    running = []
    for task in tasks:
        if task.cancel():
            task.add_done_callback(lambda task: _settle(task, discard))
            running.append(task)
        else:
            _settle(task, discard)
    if running:
        await asyncio.wait(running)


def _settle(task: asyncio.Task[T], discard: Callable[[T], object]) -> None:
    if not task.cancelled() and task.exception() is None:
        discard(task.result())
