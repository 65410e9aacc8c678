"""Pipes of every kind, and what lets a protocol read or write them."""

import asyncio
import contextlib
import io
import os
import pty
import socket
import tempfile
import tty
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import wire

Ends = tuple[io.FileIO, io.FileIO]  # what reads and what writes
Kind = Callable[[], Ends]


def ends_of(reader: int, writer: int) -> Ends:
    return io.FileIO(reader, "rb"), io.FileIO(writer, "wb")


def a_pipe() -> Ends:
    return ends_of(*os.pipe())


def a_fifo() -> Ends:
    with tempfile.TemporaryDirectory() as folder:
        name = f"{folder}/fifo"
        os.mkfifo(name)
        reader = os.open(name, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(reader, True)
        return ends_of(reader, os.open(name, os.O_WRONLY))


def a_socket() -> Ends:
    reader, writer = socket.socketpair()
    return ends_of(reader.detach(), writer.detach())


def a_terminal() -> Ends:
    """What a program has that runs in it."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    return ends_of(slave, master)


def a_master() -> Ends:
    """What a terminal emulator has."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    return ends_of(master, slave)


PIPES = [a_pipe, a_fifo, a_socket]


def one_of(kinds: list[Kind]) -> Any:
    return pytest.mark.parametrize("kind", kinds, ids=[kind.__name__ for kind in kinds])


pipes, all_kinds = one_of(PIPES), one_of([*PIPES, a_terminal, a_master])


@contextlib.asynccontextmanager
async def reading(protocol: Any, ends: Ends) -> AsyncIterator[int]:
    """Let the protocol read; what is yielded is the descriptor that writes."""
    with contextlib.closing(ends[1]):
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, ends[0])
        try:
            yield ends[1].fileno()
        finally:
            transport.close()
            await protocol.until_lost()
            await wire.turns()


@contextlib.asynccontextmanager
async def writing(protocol: Any, ends: Ends) -> AsyncIterator[io.FileIO]:
    """Let the protocol write; what is yielded is the file that reads."""
    with contextlib.closing(ends[0]):
        transport, _ = await asyncio.get_running_loop().connect_write_pipe(lambda: protocol, ends[1])
        try:
            yield ends[0]
        finally:
            if transport.get_protocol() is not None:  # type: ignore[attr-defined]
                transport.abort()  # type: ignore[attr-defined]
            await protocol.until_lost()
            await wire.turns()


async def read(file: io.FileIO, size: int) -> bytes:
    """Read exactly `size` bytes, or up to the end, in a thread."""

    def collect() -> bytes:
        found = bytearray()
        while len(found) < size and (data := os.read(file.fileno(), min(65536, size - len(found)))):
            found += data
        return bytes(found)

    return await asyncio.to_thread(collect)
