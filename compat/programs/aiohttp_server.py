"""aiohttp, server: JSON, a large body, a streamed body, connections kept alive."""

import asyncio
import json

from _raw_http import get
from aiohttp import web

BIG = b"0123456789abcdef" * 65536


async def as_json(request: web.Request) -> web.Response:
    return web.json_response({"path": request.path})


async def big(request: web.Request) -> web.Response:
    return web.Response(body=BIG)


async def streamed(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(100):
        await response.write(b"x" * 1000)
    return response


async def main() -> None:
    app = web.Application()
    app.add_routes([web.get("/json", as_json), web.get("/big", big), web.get("/streamed", streamed)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    answers = await asyncio.gather(*[get(port, "/json") for _ in range(50)])
    assert all(json.loads(body) == {"path": "/json"} for _, body in answers)
    assert await get(port, "/big") == (200, BIG)
    status, body = await get(port, "/streamed")
    assert status == 200
    assert body.count(b"x") == 100_000
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(20):
        writer.write(b"GET /json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"}")
    writer.close()
    await runner.cleanup()
    print(type(asyncio.get_running_loop()).__module__)


asyncio.run(main())
