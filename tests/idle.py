"""A server with many connections on which nothing happens, all dropped at once, again and again.

    python idle.py COUNT CYCLES [tls]

It prints a JSON line a cycle: what there is when the last connection is lost, `bytes` of memory among it. Its clients
are one process that is killed. To be run with PYTHONMALLOC=malloc: the C library gives back to the system each page
that is free, and Python's own allocator a whole megabyte or nothing.
"""

import asyncio
import ctypes
import json
import os
import resource
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from typing import Any

import garbage
from resources import resident

import epoll_loop

LIMIT = 60  # seconds after which a cycle has failed
A_SOURCE = 2500  # connections from one address: to find a free port takes long where most are taken


class Idle(asyncio.Protocol):
    """Counts those that are connected."""

    made = lost = 0

    def connection_made(self, transport: Any) -> None:
        Idle.made += 1

    def connection_lost(self, exc: Exception | None) -> None:
        Idle.lost += 1


def trimmed() -> int:
    """Bytes of memory, without what the C library keeps for the next time where it is asked to give it back."""
    garbage.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    return resident()


async def until(condition: Any) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():
            await asyncio.sleep(0.005)


async def cycle(number: int, port: int, count: int, tls: bool) -> dict[str, Any]:
    Idle.made = Idle.lost = 0
    started = time.monotonic()
    # Source addresses of their own: ports of closed connections are not to be had again for a minute. Every second
    # time the connections end with a reset.
    arguments = [f"127.{os.getpid() % 250 + 1}.{number + 1}", port, count, int(tls), number % 2]
    clients = subprocess.Popen([sys.executable, __file__, "clients", *map(str, arguments)])
    try:
        await until(lambda: Idle.made == count or clients.poll() is not None)
        most = trimmed()
    finally:
        clients.send_signal(signal.SIGKILL)
        clients.wait()
    await until(lambda: Idle.lost >= Idle.made)
    took = time.monotonic() - started
    await asyncio.sleep(0)
    return {
        "made": Idle.made,
        "lost": Idle.lost,
        "most": most,
        "bytes": trimmed(),
        "seconds": took,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "objects": garbage.ours(),
    }


async def serve(count: int, cycles: int, tls: bool) -> None:
    context = None
    if tls:
        import tls as certificates  # which makes some

        context = certificates.server_context()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Idle, "127.0.0.1", 0, ssl=context, backlog=4096)
    for number in range(cycles):
        print(json.dumps(await cycle(number, server.sockets[0].getsockname()[1], count, tls)), flush=True)
    server.close()


def connect(source: str, port: int, count: int, tls: bool, reset: bool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    sockets = []
    for i in range(count):
        sock = socket.socket()
        sock.settimeout(LIMIT)
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.bind((f"{source}.{i // A_SOURCE + 1}", 0))
        sock.connect(("127.0.0.1", port))
        sockets.append(context.wrap_socket(sock) if tls else sock)
    signal.pause()  # to be killed


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if sys.argv[1] == "clients":
        connect(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), *(flag == "1" for flag in sys.argv[5:]))
    else:
        with asyncio.Runner(loop_factory=epoll_loop.new_event_loop) as runner:
            runner.run(serve(int(sys.argv[1]), int(sys.argv[2]), "tls" in sys.argv))
