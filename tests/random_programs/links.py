"""Connections of every kind between two ends: two transports of one loop, or a transport and a plain far end."""

import asyncio
import fcntl
import io
import os
import socket
from typing import Any

import tls
from random_programs.plain import PlainEnd
from random_programs.transport import TransportEnd

SERVER, CLIENT = tls.server_context(), tls.client_context()
ROOM = {"small": 16384, "usual": None, "large": 1 << 20}  # send buffers; the kernel doubles what it is asked for


async def open_link(program: Any, plain: bool, swapped: bool, near: Any, far: Any) -> list[Any]:
    """Return the two ends of a connection, the transport of interest first. `near` and `far` make transport ends."""
    opener = {"tcp": _open_tcp, "unix": _open_unix, "pipe": _open_pipe, "tls": _open_tls}[program.kind]
    async with asyncio.timeout(tls.LIMIT):
        return await opener(program, plain, swapped, near, far)  # type: ignore[operator,no-any-return]


async def _until_made(*ends: TransportEnd) -> None:
    while not all(end.made for end in ends):
        await asyncio.sleep(0)


async def _open_tcp(program: Any, plain: bool, swapped: bool, near: Any, far: Any) -> list[Any]:
    loop = program.loop
    if not plain:
        return await _serve_and_connect(loop, swapped, near(), far(), {}, {})
    end = near()
    if swapped:  # the transport is the client's
        with socket.create_server(("127.0.0.1", 0)) as listening:
            await loop.create_connection(lambda: end.protocol, *listening.getsockname())
            peer, _ = listening.accept()
    else:
        server = await loop.create_server(lambda: end.protocol, "127.0.0.1", 0)
        peer = socket.create_connection(server.sockets[0].getsockname())
        await _until_made(end)
        server.close()
    return [end, PlainEnd(program, 1, peer)]


async def _open_tls(program: Any, plain: bool, swapped: bool, near: Any, far: Any) -> list[Any]:
    return await _serve_and_connect(program.loop, swapped, near(), far(), {"ssl": SERVER}, {"ssl": CLIENT, **tls.NAME})


async def _serve_and_connect(
    loop: Any, swapped: bool, near: TransportEnd, far: TransportEnd, server_args: Any, client_args: Any
) -> list[Any]:
    server_end, client_end = (far, near) if swapped else (near, far)
    server = await loop.create_server(lambda: server_end.protocol, "127.0.0.1", 0, **server_args)
    await loop.create_connection(lambda: client_end.protocol, *server.sockets[0].getsockname(), **client_args)
    await _until_made(server_end)
    server.close()  # and no wait_closed(), which waits for the connection
    return [near, far]


async def _open_unix(program: Any, plain: bool, swapped: bool, near: Any, far: Any) -> list[Any]:
    ours, theirs = socket.socketpair()
    end = near()
    await program.loop.create_unix_connection(lambda: end.protocol, sock=ours)
    if plain:
        return [end, PlainEnd(program, 1, theirs)]
    other = far()
    await program.loop.create_unix_connection(lambda: other.protocol, sock=theirs)
    return [end, other]


async def _open_pipe(program: Any, plain: bool, swapped: bool, near: Any, far: Any) -> list[Any]:
    loop = program.loop
    reader, writer = os.pipe()
    connect = [loop.connect_read_pipe, loop.connect_write_pipe]
    descriptors = [(reader, "rb"), (writer, "wb")]
    ours = int(swapped)  # the end of the pipe that the first transport has
    end = near()
    await connect[ours](lambda: end.protocol, io.FileIO(*descriptors[ours]))
    if plain:
        other: Any = PlainEnd(program, 1, fd=descriptors[not ours][0])
    else:
        other = far()
        await connect[not ours](lambda: other.protocol, io.FileIO(*descriptors[not ours]))
    writing, reading = (end, other) if swapped else (other, end)
    writing.reads = reading.writes = False
    return [end, other]


def make_room(end: Any, room: int | None) -> None:
    """Set how much the kernel buffers of what an end sends."""
    if room is None:
        return
    name = "pipe" if end.program.kind == "pipe" else "socket"
    file = end.transport.get_extra_info(name) if end.is_transport else end.sock or end.fd
    if name == "socket":
        file.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
    elif hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(file, fcntl.F_SETPIPE_SZ, room)
