"""Clients of the servers."""

import asyncio
from typing import Any

import pytest
from recording import Talk


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
