"""One end of a connection: sends what a seed gives and receives what the other end's seed gives, at the same time.

    python -m reliability.peer server|client ADDRESS PORT BYTES SECONDS [CERTIFICATES]

A server says `ready`, and each end says at last what it has received. After so many seconds it is ended by SIGALRM.
CERTIFICATES is a folder with ca.pem and server.pem, for TLS.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import signal
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import epoll_loop

_BLOCK = 256 * 1024
_READ = 64 * 1024
SEEDS = {"server": 1, "client": 2}


def content(seed: int, size: int) -> Iterator[bytes]:
    """`size` bytes, in blocks of which no two are alike."""
    block = random.Random(seed).randbytes(_BLOCK)
    for number in range(0, size, _BLOCK):
        yield (number.to_bytes(8) + block[8:])[: size - number]


def digest(seed: int, size: int) -> str:
    """The digest of `content()`."""
    found = hashlib.sha256()
    for block in content(seed, size):
        found.update(block)
    return found.hexdigest()


async def _send(writer: asyncio.StreamWriter, seed: int, size: int) -> None:
    for block in content(seed, size):
        writer.write(block)
        await writer.drain()


async def _receive(reader: asyncio.StreamReader, size: int) -> tuple[int, str]:
    found = hashlib.sha256()
    count = 0
    while count < size and (data := await reader.read(_READ)):
        count += len(data)
        found.update(data)
    return count, found.hexdigest()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, role: str, size: int) -> None:
    _, (count, received) = await asyncio.gather(_send(writer, SEEDS[role], size), _receive(reader, size))
    other = "client" if role == "server" else "server"
    build = f"{'compiled' if epoll_loop.COMPILED else 'pure'}, {epoll_loop.POLLER}"
    report = {"role": role, "received": count, "whole": received == digest(SEEDS[other], size), "build": build}
    print(json.dumps(report), flush=True)
    if role == "client":
        writer.close()  # the server waits for that: nothing of its own is on the way any more
    else:
        assert await reader.read() == b""
        writer.close()
    await writer.wait_closed()


async def _serve(address: str, port: int, size: int, context: ssl.SSLContext | None) -> None:
    done = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            done.set_result(await _exchange(reader, writer, "server", size))
        except Exception as exc:
            done.set_exception(exc)

    server = await asyncio.start_server(serve, address, port, ssl=context)
    print("ready", flush=True)
    async with server:
        await done


async def _connect(address: str, port: int, size: int, context: ssl.SSLContext | None) -> None:
    reader, writer = await asyncio.open_connection(address, port, ssl=context)
    await _exchange(reader, writer, "client", size)


def main() -> None:
    """Be what the command line says."""
    role, address, port, size, seconds, *folder = sys.argv[1:]
    signal.alarm(int(seconds))  # also if the loop hangs
    context = None
    if folder:
        certificates = Path(folder[0])
        if role == "server":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates / "server.pem")
        else:
            context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    work = (_serve if role == "server" else _connect)(address, int(port), int(size), context)
    epoll_loop.run(work)


if __name__ == "__main__":
    main()
