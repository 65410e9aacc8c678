"""Sockets that belong to the tests, and the coroutines on them."""

import asyncio
import os
import select
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from interpreter import PATIENCE

LIMIT = 10 * PATIENCE  # seconds after which a wait has failed; nothing here takes one
LARGE = bytes(10_000_000)  # more than the kernel takes without anybody reading
Pair = tuple[socket.socket, socket.socket]


def now() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def recv(sock: socket.socket) -> bytes:
    return await now().sock_recv(sock, 100)


async def recv_into(sock: socket.socket) -> bytes:
    buffer = bytearray(100)
    return bytes(buffer[: await now().sock_recv_into(sock, buffer)])


async def recvfrom(sock: socket.socket) -> bytes:
    return (await now().sock_recvfrom(sock, 100))[0]


async def recvfrom_into(sock: socket.socket) -> bytes:
    buffer = bytearray(100)
    return bytes(buffer[: (await now().sock_recvfrom_into(sock, buffer))[0]])


Read = Callable[[socket.socket], Coroutine[Any, Any, bytes]]
READS: list[Read] = [recv, recv_into, recvfrom, recvfrom_into]


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that does not wait for anything."""
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    return stopped.value.value


def until_readable(*socks: socket.socket) -> None:
    """Wait, outside of the loop, until the kernel has something for each of them."""
    for sock in socks:
        assert select.select([sock], [], [], LIMIT)[0]


async def turns(count: int = 5) -> None:
    """Let the loop go round a few times, for what must not happen."""
    for _ in range(count):
        await asyncio.sleep(0)


async def waiting(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task that has come to where it waits."""
    task = asyncio.ensure_future(coroutine)
    await turns()
    assert not task.done()
    return task


def reset(sock: socket.socket) -> None:
    """Close a TCP connection with an RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def drain(sock: socket.socket, size: int) -> bytes:
    """Read exactly that many bytes."""
    data = bytearray()
    while len(data) < size:
        data += await now().sock_recv(sock, min(size - len(data), 1 << 20))
    return bytes(data)


def at_number(number: int, sock: socket.socket) -> socket.socket:
    """The same socket, non-blocking, under a descriptor that is free."""
    if sock.fileno() != number:  # the lowest that is free is what the kernel takes
        with sock:
            os.dup2(sock.fileno(), number, inheritable=False)
        sock = socket.socket(fileno=number)
    sock.setblocking(False)
    return sock
