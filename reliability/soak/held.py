"""What the process holds: memory, descriptors, and objects of the loop's own types."""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

# The loop keeps as many of these at the most, to use them again.
KEPT = {"epoll_loop.core.handles.Handle": 1024, "epoll_loop.core.syscalls.Destination": 2048}


def memory() -> int:
    """Return the resident bytes, counted by pages: the counters of statm lag behind."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Rss in smaps_rollup")


def descriptors() -> int:
    """Return how many are open, without the one that this needs."""
    return len(os.listdir("/proc/self/fd")) - 1


def objects() -> Counter[str]:
    """Return how many objects there are of each type that the loop brings, of tasks and futures, beyond KEPT."""
    gc.collect()
    found = Counter(
        f"{kind.__module__}.{kind.__qualname__}"
        for kind in map(type, gc.get_objects())
        if str(kind.__module__).partition(".")[0] == "epoll_loop" or kind.__name__ in ("Task", "Future")
    )
    for name, count in KEPT.items():
        found[name] = max(0, found[name] - count)
    return found


@dataclass
class Held:
    """Memory and descriptors in the course of a run, and what is left after it."""

    seconds: float
    memory: list[tuple[float, int]] = field(default_factory=list)  # at which second how many bytes
    descriptors: int = 0  # the most
    before: tuple[int, int] = (0, 0)  # memory and descriptors
    after: tuple[int, int] = (0, 0)
    left: Counter[str] = field(default_factory=Counter)
    snapshot: tracemalloc.Snapshot | None = None
    grown: list[tracemalloc.StatisticDiff] = field(default_factory=list)

    @property
    def warm(self) -> float:
        """The second at which everything has been done at least once."""
        return min(60.0, self.seconds / 10)

    def look(self, elapsed: float) -> None:
        """Note what is held now."""
        self.memory.append((elapsed, memory()))
        self.descriptors = max(self.descriptors, descriptors())

    def _lowest(self, begin: float, end: float) -> int:
        """Return the lowest memory of a part of the run: what the load needs at all times."""
        return min(size for elapsed, size in self.memory if begin <= elapsed <= end)

    @property
    def _tenth(self) -> float:
        return max(1.0, self.memory[-1][0] / 10)

    @property
    def first(self) -> int:
        """Memory after the warm-up."""
        begin = min(self.warm, self.memory[-1][0])
        return self._lowest(begin, begin + self._tenth)

    @property
    def last(self) -> int:
        """Memory in the end, under the same load."""
        end = self.memory[-1][0]
        return self._lowest(end - self._tenth, end)
