"""What an HTTP server is put to: many requests at once, connections kept, bodies in chunks, SIGTERM as it answers.

The servers answer as `app.py` does, and the functions return the module of the loop that they ran on.
"""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator

import httpx
from commands import Command

import epoll_loop

REQUESTS = 200
CONNECTIONS = 10
BODY = 2**20
LONG = 2**24


def work(server: Command, *, tls: ssl.SSLContext | None = None, http2: bool = False) -> str:
    """Put a server to work, and ask it to end."""
    return epoll_loop.run(_work(server, tls, http2))


def meet(server: Command, workers: int) -> str:
    """Ask until as many processes have answered."""
    return epoll_loop.run(_meet(server, workers))


async def _work(server: Command, tls: ssl.SSLContext | None, http2: bool) -> str:
    async with httpx.AsyncClient(
        base_url=f"{'https' if tls else 'http'}://127.0.0.1:{server.port}",
        verify=tls or False,
        http2=http2,
        limits=httpx.Limits(max_connections=CONNECTIONS),
        timeout=30.0,
        trust_env=False,
    ) as client:
        answers = await asyncio.gather(*[client.get("/") for _ in range(REQUESTS)])
        assert {answer.http_version for answer in answers} == {"HTTP/2" if http2 else "HTTP/1.1"}
        said = [answer.json() for answer in answers]
        # The servers keep an idle connection for a minute, since a few seconds may pass on a busy machine.
        assert len({one["client"] for one in said}) <= (1 if http2 else CONNECTIONS)

        bodies = [os.urandom(BODY) for _ in range(4)]
        answers = await asyncio.gather(*[client.post("/echo", content=_pieces(body)) for body in bodies])
        assert [answer.content for answer in answers] == bodies
        assert http2 or {answer.headers["transfer-encoding"] for answer in answers} == {"chunked"}

        async with client.stream("GET", "/long") as answer:
            pieces = answer.aiter_raw()
            size = len(await anext(pieces))
            # Nobody reads, so the server cannot be done with its answer as the signal comes. To HTTP/2 hypercorn would
            # say goodbye before the end of the last stream, whatever the loop.
            if not http2:
                server.terminate()
            async for piece in pieces:
                size += len(piece)
        assert size == LONG
        if http2:
            server.terminate()
    (loop,) = {one["loop"] for one in said}
    return loop


async def _meet(server: Command, workers: int) -> str:
    loops = set()
    met = set()
    while len(met) < workers:  # a connection goes to whoever comes first
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client:
            answers = await asyncio.gather(*[client.get("/") for _ in range(20)])
        for answer in answers:
            loops.add(answer.json()["loop"])
            met.add(answer.json()["pid"])
    (loop,) = loops
    return loop


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 50_000):
        yield body[start : start + 50_000]
