"""What an HTTP server is put to: many requests at once, connections kept, bodies in chunks, SIGTERM as it answers."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator

import epoll_loop
import httpx
from commands import Command

REQUESTS = 200
CONNECTIONS = 10
BODY = 2**20
LONG = 2**24


def work(server: Command, *, tls: ssl.SSLContext | None = None, http2: bool = False) -> str:
    """Put a server of the answers in `app.py` to work, ask it to end, and return the module of the loop that it ran on."""
    return epoll_loop.run(_work(server, tls, http2))


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
        assert len({one["client"] for one in said}) <= (1 if http2 else CONNECTIONS)

        bodies = [os.urandom(BODY) for _ in range(4)]
        answers = await asyncio.gather(*[client.post("/echo", content=_pieces(body)) for body in bodies])
        assert [answer.content for answer in answers] == bodies

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


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 50_000):
        yield body[start : start + 50_000]
