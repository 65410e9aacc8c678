"""Clients of the servers."""

import asyncio
from multiprocessing import resource_tracker
from typing import Any

import pytest
from recording import Talk


@pytest.fixture(scope="session")
def tracker():
    """It is multiprocessing's, begins with the first process, and has a descriptor until the end."""
    resource_tracker.ensure_running()


@pytest.fixture
async def connect():
    """Makes clients, by the address that a server has; closed at the end."""
    made = []

    async def make(address: Any, **options: Any) -> Talk:
        if isinstance(address, str):
            streams = await asyncio.open_unix_connection(address, **options)
        else:
            streams = await asyncio.open_connection(*address[:2], **options)
        made.append(streams[1])
        return Talk(*streams)

    yield make
    for writer in made:
        writer.close()


class Reports(list[BaseException]):
    """The exceptions that the exception handler is told of, and the messages with them."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def add(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.append(context["exception"])
        self.messages.append(context["message"])


@pytest.fixture
async def reports():
    """What the exception handler is told of."""
    found = Reports()
    asyncio.get_running_loop().set_exception_handler(found.add)
    return found
