"""The tests of this folder run on asyncio's own loop too, which shows that they ask for what asyncio promises.

`ours` in a module marks what only this loop promises.
"""

import asyncio
import re
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import datagrams
import pytest
import wire

import epoll_loop

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "epoll_loop": epoll_loop.new_event_loop,
    "asyncio": asyncio.SelectorEventLoop,
}


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return LOOPS


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Once is enough to show that a test asks the right thing: asyncio's loop gets accepted connections only.

    Not its fallback of sendfile() either: up to 3.13 that overwrites what it has not sent yet.
    """
    extra = [item for item in items if re.search(r"\[asyncio-(.*-)?(connected|unix|fallback)\b", item.name)]
    config.hook.pytest_deselected(items=extra)
    items[:] = [item for item in items if item not in extra]


@pytest.fixture(autouse=True)
def _closes_what_it_opens(no_descriptor_left: None) -> None:
    """Every test does."""


@pytest.fixture(params=[wire.accepted, wire.connected, wire.unix], ids=["accepted", "connected", "unix"])
def link(request: pytest.FixtureRequest) -> wire.Link:
    """The ways to a connection: accepted, connected, and a Unix socket."""
    made: wire.Link = request.param
    return made


@pytest.fixture(params=[wire.accepted, wire.connected], ids=["accepted", "connected"])
def tcp(request: pytest.FixtureRequest) -> wire.Link:
    """The ways to a TCP connection."""
    made: wire.Link = request.param
    return made


@pytest.fixture(params=LOOPS.values(), ids=LOOPS)
def either_loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop for tests that run and stop it themselves."""
    new = request.param()
    yield new
    if not new.is_closed():
        new.close()


@pytest.fixture
async def reports() -> list[dict[str, Any]]:
    """What the loop's exception handler was called with."""
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: found.append(context))
    return found


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose name is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="d") as name:
        yield Path(name)


@pytest.fixture(params=["IPv4", "IPv6", "Unix", "abstract"])
def new(request: pytest.FixtureRequest, folder: Path) -> Callable[[], socket.socket]:
    """Makes bound datagram sockets, all of one kind."""
    return lambda: datagrams.bound(request.param, folder)
