"""What all of the work shares: the record, where the servers are, and when it is over."""

from __future__ import annotations

import asyncio
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from reliability.soak.record import Record


@dataclass
class World:
    """One run."""

    record: Record
    seed: int
    seconds: float
    folder: Path  # for the static file, the certificate and the Unix socket
    places: dict[str, Any] = field(default_factory=dict)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    handled: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))  # signals
    client_context: ssl.SSLContext = field(default_factory=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    session: aiohttp.ClientSession = field(init=False)

    def port(self, place: str) -> int:
        """Return the port of a place on 127.0.0.1."""
        return int(self.places[place][1])

    def url(self, scheme: str, path: str) -> str:
        """Return the URL of a path, by http, https, ws or wss."""
        return f"{scheme}://127.0.0.1:{self.port('https' if scheme in ('https', 'wss') else 'http')}{path}"

    def stall(self, random: Random) -> float:
        """Return for how long to stall: up to seconds, less in a short run."""
        return random.uniform(0.1, min(4.0, self.seconds / 8))

    async def rest(self, seconds: float) -> None:
        """Wait, but not longer than the run."""
        try:
            async with asyncio.timeout(seconds):
                await self.stop.wait()
        except TimeoutError:
            pass


def environment() -> dict[str, str]:
    """Return what a child that is to find this package has for an environment."""
    root = str(Path(__file__).parents[2])
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
