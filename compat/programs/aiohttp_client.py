"""aiohttp, client and server: sessions, posts, a WebSocket."""

import asyncio

import aiohttp
from aiohttp import web


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def socket(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        await ws.send_str(message.data)
    return ws


async def main() -> None:
    app = web.Application(client_max_size=2**22)
    app.add_routes([web.post("/echo", echo), web.get("/socket", socket)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession() as session:

        async def post(body: bytes) -> None:
            async with session.post(f"{base}/echo", data=body) as response:
                assert await response.read() == body

        await asyncio.gather(*[post(b"%d" % i * 1000) for i in range(50)])
        await post(b"x" * 2**21)
        async with session.ws_connect(f"{base}/socket") as ws:
            for i in range(100):
                await ws.send_str(str(i))
            assert [await ws.receive_str() for _ in range(100)] == [str(i) for i in range(100)]
    await runner.cleanup()
    print(type(asyncio.get_running_loop()).__module__)


asyncio.run(main())
