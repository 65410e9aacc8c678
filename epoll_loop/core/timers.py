"""Timers: a handle with a deadline, and the queue that holds them.

The queue is a binary heap, written out here so that compiled it compares C numbers: `heapq` would call back into
`__lt__`, or build a tuple a timer. Cancelling marks; the queue drops marked timers from its end at once, from its front
when they are due, and rebuilds itself when more than half of it is marked (I26). A server cancels nearly all that it
makes.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextvars import Context
from typing import Any

from epoll_loop.core.handles import Handle
from epoll_loop.core.syscalls import Link, Queue

# Below this many cancelled timers a rebuild is not worth its while.
_FEW = 64
_NEVER = math.inf


class TimerHandle(Handle):
    """A callback scheduled for a time of the loop's clock, the `asyncio.TimerHandle` of this loop."""

    __slots__ = ("_queue", "_scheduled", "_seq", "_when")

    def __init__(
        self,
        when: float,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        loop: Any,
        context: Context | None = None,
    ) -> None:
        Handle.__init__(self, callback, args, loop, context)
        self._when = when + 0.0
        self._seq = 0
        self._scheduled = False
        self._queue: TimerQueue | None = None

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return asyncio.TimerHandle

    def when(self) -> float:
        """Return the deadline, in seconds of `loop.time()`."""
        return self._when

    def cancel(self) -> None:
        """Do not run the callback. Calling it again, or after the callback has run, has no effect."""
        if not self._cancelled:
            Handle.cancel(self)
            if self._scheduled and self._queue is not None:
                self._queue.cancelled(self)

    def _describe(self) -> list[str]:
        words = Handle._describe(self)
        words.insert(2 if self._cancelled else 1, f"when={self._when}")
        return words

    def __hash__(self) -> int:
        return hash(self._when)

    def _key(self) -> tuple[float, Any, Any, bool]:
        return self._when, self._callback, self._args, self._cancelled

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, asyncio.TimerHandle):
            return NotImplemented
        return bool(self._key() == (other._when, other._callback, other._args, other._cancelled))  # type: ignore[attr-defined]

    def __lt__(self, other: object) -> bool:
        return self._when < other.when() if isinstance(other, asyncio.TimerHandle) else NotImplemented

    def __le__(self, other: object) -> bool:
        return self._when <= other.when() if isinstance(other, asyncio.TimerHandle) else NotImplemented

    def __gt__(self, other: object) -> bool:
        return self._when > other.when() if isinstance(other, asyncio.TimerHandle) else NotImplemented

    def __ge__(self, other: object) -> bool:
        return self._when >= other.when() if isinstance(other, asyncio.TimerHandle) else NotImplemented



def _earlier(a: TimerHandle, b: TimerHandle) -> bool:
    # Equal deadlines fire in the order of scheduling.
    return a._when < b._when or (a._when == b._when and a._seq < b._seq)


class TimerQueue:
    """The timers that have not fired, earliest first; a timer is in at most one queue, once."""

    __slots__ = ("_dead", "_heap", "_seq")

    def __init__(self) -> None:
        self._heap: list[TimerHandle] = []
        self._seq = 0
        self._dead = 0  # about how many in the heap are cancelled: when to rebuild

    def __len__(self) -> int:
        return sum(1 for timer in self._heap if not timer._cancelled)

    def push(self, timer: TimerHandle) -> None:
        """Add a timer, behind the others with the same deadline. ValueError if that is not a number."""
        if timer._when != timer._when:
            raise ValueError("the deadline of a timer is not a number")
        self._seq += 1
        timer._seq = self._seq
        timer._queue = self
        timer._scheduled = True
        self._heap.append(timer)
        self._rise(len(self._heap) - 1)

    def cancelled(self, timer: TimerHandle) -> None:
        """Note that a timer of this queue was cancelled."""
        heap = self._heap
        if heap and heap[-1] is timer:  # empty while _rebuild() fills it
            heap.pop()
            timer._scheduled = False
            return
        self._dead += 1
        if self._dead > _FEW and self._dead * 2 > len(heap):
            self._rebuild()

    def next(self) -> float:
        """Return the earliest deadline, or infinity if there is none."""
        while self._heap:
            timer = self._heap[0]
            if not timer._cancelled:
                return timer._when
            self._pop()
            self._dead -= 1
        return _NEVER

    def pop_due(self, now: float, ready: Queue[Link]) -> None:
        """Move the timers whose deadline is not after `now` to the end of `ready`. None is early."""
        while self._heap:
            timer = self._heap[0]
            if timer._cancelled:
                self._dead -= 1
            elif timer._when > now:
                return
            else:
                ready.append(timer)
            self._pop()

    def clear(self) -> None:
        """Forget all timers."""
        for timer in self._heap:
            timer._scheduled = False
        self._heap.clear()
        self._dead = 0

    def _rebuild(self) -> None:
        # The collector may run in here, and a finalizer set a timer: the new heap is in place from the beginning.
        empty: list[TimerHandle] = []
        heap = self._heap
        self._heap = empty
        self._dead = 0
        for timer in heap:
            if timer._cancelled:
                timer._scheduled = False
            else:
                self._heap.append(timer)
                self._rise(len(self._heap) - 1)  # in the order of a heap hardly ever a step

    def _pop(self) -> None:
        heap = self._heap
        last = heap.pop()
        if heap:
            heap[0]._scheduled = False
            self._sink(last)
        else:
            last._scheduled = False

    def _rise(self, index: int) -> None:
        heap = self._heap
        timer = heap[index]
        while index > 0:
            up = (index - 1) >> 1
            parent = heap[up]
            if not _earlier(timer, parent):
                break
            heap[index] = parent
            index = up
        heap[index] = timer

    def _sink(self, timer: TimerHandle) -> None:
        # The hole at the top goes down along the earlier children to a leaf; the timer, which was last and so belongs
        # near the leaves, rises from there: half the comparisons of looking for its place from above.
        heap = self._heap
        size = len(heap)
        index = 0
        child = 1
        while child < size:
            lower = heap[child]
            if child + 1 < size:
                right = heap[child + 1]
                # _earlier(right, lower), written out: in the pure build the call would be most of the work
                if right._when < lower._when or (right._when == lower._when and right._seq < lower._seq):
                    lower = right
                    child += 1
            heap[index] = lower
            index = child
            child = 2 * index + 1
        heap[index] = timer
        self._rise(index)
