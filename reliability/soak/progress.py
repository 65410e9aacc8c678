"""How it goes: a table on a terminal, else a line now and then."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live
from rich.table import Table

from reliability.soak import held
from reliability.soak.world import World

EVERY = 30.0  # seconds from one line to the next, fewer in a short run


class Progress:
    """Shown twice a second on a terminal."""

    def __init__(self, console: Console, world: World) -> None:
        self._console = console
        self._world = world
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._every = min(EVERY, world.seconds / 3)
        self._next = self._every

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Have the table on the terminal meanwhile."""
        with self._live or contextlib.nullcontext():
            yield

    def __call__(self, elapsed: float) -> None:
        """Show where it is."""
        if self._live is not None:
            self._live.update(self._table(elapsed), refresh=True)
        elif elapsed >= self._next:
            self._next += self._every
            figures = [f"{value} {name}" for name, value in self._figures(elapsed)]
            # Kinds that begin with the same word are one here.
            words = Counter[str]()
            for (kind, _), count in self._world.record.answered.items():
                words[kind.split()[0]] += count
            figures[1] += " (" + ", ".join(f"{count:,} {word}" for word, count in sorted(words.items())) + ")"
            print(", ".join(figures), flush=True)

    def _figures(self, elapsed: float) -> list[tuple[str, str]]:
        record = self._world.record
        return [
            ("s", f"{elapsed:.0f}"),
            ("requests", f"{record.answered.total():,}"),
            ("faults", f"{record.faults.total():,}"),
            ("errors expected", f"{record.expected.total():,}"),
            ("unexpected", f"{record.unexpected.total():,}"),
            ("lost", f"{record.lost.total():,}"),
            ("MB", f"{held.memory() / 1e6:.0f}"),
            ("descriptors", f"{held.descriptors()}"),
            ("tasks", f"{len(asyncio.all_tasks())}"),
        ]

    def _table(self, elapsed: float) -> Table:
        figures = self._figures(elapsed)
        whole = Table.grid(padding=(0, 2))
        sums = Table("", f"of {self._world.seconds:.0f} s")
        for name, value in figures:
            sums.add_row(name, value)
        requests = Table("requests", "answered")
        for kind in sorted({kind for kind, _ in self._world.record.answered}):
            count = sum(count for (name, _), count in self._world.record.answered.items() if name == kind)
            requests.add_row(kind, f"{count:,}")
        faults = Table("faults", "put in")
        for name, count in self._world.record.faults.items():
            faults.add_row(name, f"{count:,}")
        whole.add_row(sums, requests, faults)
        return whole
