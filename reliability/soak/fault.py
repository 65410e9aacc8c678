"""What a fault is, and which errors it may cause.

Every fault has an address of its own in 127.0.1.0/24, or a name where there are no addresses: that is how it is known
whose fault an error is that the server sees.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reliability.soak.world import World

Run = Callable[["World", "Fault", Random], Awaitable[None]]


@dataclass(frozen=True, eq=False)
class Fault:
    """A way to misbehave, and the names of the errors that it may cause at the client and at the server."""

    name: str
    run: Run
    client: frozenset[str]
    server: frozenset[str]
    number: int

    @property
    def group(self) -> str:
        """The first word of the name: those of a group take turns."""
        return self.name.partition(" ")[0]

    @property
    def address(self) -> str:
        """Where its clients come from."""
        return f"127.0.1.{self.number}"


FAULTS: dict[str, Fault] = {}

# What a peer that is gone leaves to see; the last two are aiohttp's.
GONE = ("ConnectionResetError", "BrokenPipeError", "ClientConnectionResetError", "ConnectionError")


def fault(name: str, client: Iterable[str] = (), server: Iterable[str] = ()) -> Callable[[Run], Run]:
    """Enter a coroutine function that puts in a fault of this name once."""

    def enter(run: Run) -> Run:
        FAULTS[name] = Fault(name, run, frozenset(client), frozenset(server), len(FAULTS) + 1)
        return run

    return enter


def whose(peer: object) -> Fault | None:
    """Return the fault that has this address, or this text with an address in it; None for good clients."""
    text = peer.decode() if isinstance(peer, bytes) else str(peer)
    found = re.search(r"127\.0\.1\.(\d+)|\0soak-\d+-(\d+)-", text)
    number = int(found[1] or found[2]) if found else 0
    return next((one for one in FAULTS.values() if one.number == number), None)
