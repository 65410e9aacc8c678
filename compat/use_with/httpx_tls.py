"""httpx over TLS: a pool of connections, bodies that are streams both ways, timeouts, a request that is given up."""

import asyncio
import os
from collections.abc import AsyncIterator

import certificates
import httpx
from aiohttp import web

import epoll_loop

MIB = os.urandom(2**20)
REQUESTS = 200
CONNECTIONS = 10


async def who(request: web.Request) -> web.Response:
    assert request.transport is not None
    return web.json_response(request.transport.get_extra_info("peername")[1])


async def echo(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    async for piece in request.content.iter_any():
        await response.write(piece)
    return response


async def never(request: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError("not reached")


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 50_000):
        yield body[start : start + 50_000]


async def work(client: httpx.AsyncClient) -> None:
    ports = [answer.json() for answer in await asyncio.gather(*[client.get("/") for _ in range(REQUESTS)])]
    assert len(ports) == REQUESTS
    assert len(set(ports)) <= CONNECTIONS

    async def there_and_back() -> None:
        async with client.stream("POST", "/echo", content=pieces(MIB)) as answer:
            assert b"".join([piece async for piece in answer.aiter_bytes()]) == MIB

    await asyncio.gather(*[there_and_back() for _ in range(5)])

    (late,) = await asyncio.gather(client.get("/never", timeout=0.05), return_exceptions=True)
    assert isinstance(late, httpx.ReadTimeout)
    try:
        async with asyncio.timeout(0.05):
            await client.get("/never")
    except TimeoutError:
        pass
    assert await asyncio.gather(*[there_and_back() for _ in range(CONNECTIONS)]) == [None] * CONNECTIONS


async def main() -> None:
    server_context, context = certificates.contexts()

    app = web.Application(client_max_size=2**22)
    app.add_routes([web.get("/", who), web.post("/echo", echo), web.get("/never", never)])
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context).start()
    async with httpx.AsyncClient(
        base_url=f"https://127.0.0.1:{runner.addresses[0][1]}",
        verify=context,
        limits=httpx.Limits(max_connections=CONNECTIONS),
        timeout=30.0,
        trust_env=False,
    ) as client:
        await work(client)
    await runner.cleanup()
    print(type(asyncio.get_running_loop()).__module__)


epoll_loop.run(main())
