"""The counts: what was asked and answered, which faults were put in, what was seen of them, and what was lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

from reliability.soak.content import LIMIT, Wrong
from reliability.soak.fault import Fault

HERE, APART = "in the loop", "from a process"  # where the client is


class Record:
    """What happened so far."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()  # by kind and by where the client is
        self.answered: Counter[tuple[str, str]] = Counter()
        self.failed: Counter[tuple[str, str]] = Counter()
        self.faults: Counter[str] = Counter()
        self.expected: Counter[tuple[str, str, str]] = Counter()  # by fault, side and error
        self.unexpected: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.tallies: Counter[str] = Counter()
        self.highest: dict[str, float] = {}

    @contextlib.asynccontextmanager
    async def request(self, kind: str) -> AsyncIterator[None]:
        """Count what a good client asks for; it is lost if an exception comes out of it, or nothing for too long."""
        self.asked[kind, HERE] += 1
        try:
            async with asyncio.timeout(LIMIT):
                yield
        except Exception as exc:
            self.fail(kind, HERE, repr(exc))
        else:
            self.answered[kind, HERE] += 1

    @contextlib.asynccontextmanager
    async def fault(self, fault: Fault) -> AsyncIterator[None]:
        """Count a fault that is put in; what the client itself sees of it may come out as an exception."""
        self.faults[fault.name] += 1
        try:
            async with asyncio.timeout(LIMIT):
                yield
        except Wrong as exc:
            self.lose(f"{fault.name}: {exc}")
        except Exception as exc:
            self.seen(fault, "client", exc)

    def seen(self, fault: Fault | None, side: str, error: BaseException | str) -> None:
        """Count an error: expected if the fault may cause it on this side, unexpected without a fault."""
        name = error if isinstance(error, str) else type(error).__name__
        if fault is not None and name in (fault.client if side == "client" else fault.server):
            self.expected[fault.name, side, name] += 1
        else:
            self.unexpected[f"{fault.name if fault else 'no fault'}, {side}: {error!r}"] += 1

    def fail(self, kind: str, where: str, text: str) -> None:
        """Count a request that went wrong."""
        self.failed[kind, where] += 1
        self.lose(f"{kind}, {where}: {text}")

    def lose(self, text: str) -> None:
        """Count something that must not be lost, and is."""
        self.lost[text] += 1

    def check(self, right: bool, text: str) -> None:
        """Count a promise of the loop that was not kept."""
        if not right:
            self.lose(text)

    def high(self, name: str, value: float) -> None:
        """Keep the highest value of each name."""
        if value > self.highest.get(name, 0):
            self.highest[name] = value

    def unanswered(self) -> Counter[tuple[str, str]]:
        """What was asked, and neither answered nor failed, by kind."""
        return self.asked - self.answered - self.failed

    def good(self) -> bool:
        """Whether nothing was lost, and nothing unexpected seen."""
        return not (self.lost or self.unexpected or self.unanswered())
