"""aiohttp, client and server: sessions over TLS, forms with files, a pool, timeouts, WebSockets with compression."""

import asyncio
import os

import aiohttp
import certificates
from aiohttp import web

MIB = os.urandom(2**20)
CONNECTIONS = 10


async def echo(request: web.Request) -> web.Response:
    assert request.transport is not None
    port = request.transport.get_extra_info("peername")[1]
    return web.Response(body=await request.read(), headers={"Port": str(port)})


async def form(request: web.Request) -> web.Response:
    reader = await request.multipart()
    sizes = {}
    while (part := await reader.next()) is not None:
        assert isinstance(part, aiohttp.BodyPartReader)
        sizes[part.name] = len(await part.read())
    return web.json_response(sizes)


async def never(request: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError("not reached")


async def socket(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(max_msg_size=2**22)
    await ws.prepare(request)
    async for message in ws:
        await (ws.send_str if message.type is aiohttp.WSMsgType.TEXT else ws.send_bytes)(message.data)
    return ws


async def requests(session: aiohttp.ClientSession) -> None:
    ports = set()

    async def post(body: bytes) -> None:
        async with session.post("/echo", data=body) as response:
            assert await response.read() == body
            ports.add(response.headers["Port"])

    await asyncio.gather(*[post(b"%d" % i * 1000) for i in range(200)])
    assert len(ports) <= CONNECTIONS
    await asyncio.gather(*[post(MIB * 2) for _ in range(4)])
    fields = aiohttp.FormData({"name": "value"})
    fields.add_field("file", MIB, filename="file")
    async with session.post("/form", data=fields) as response:
        assert await response.json() == {"name": 5, "file": 2**20}
    try:
        await session.get("/never", timeout=aiohttp.ClientTimeout(total=0.05))
    except TimeoutError:
        pass
    else:
        raise AssertionError("an answer of /never")


async def messages(session: aiohttp.ClientSession, compress: int) -> None:
    async with session.ws_connect("/socket", compress=compress, max_msg_size=2**22) as ws:
        for i in range(1000):
            await ws.send_str(str(i))
        assert [await ws.receive_str() for _ in range(1000)] == [str(i) for i in range(1000)]
        await ws.send_bytes(MIB)
        assert await ws.receive_bytes() == MIB
        await ws.send_str("compressible " * 80_000)
        assert await ws.receive_str() == "compressible " * 80_000


async def main() -> None:
    server_context, context = certificates.contexts()

    app = web.Application(client_max_size=2**22)
    app.add_routes([web.post("/echo", echo), web.post("/form", form)])
    app.add_routes([web.get("/never", never), web.get("/socket", socket)])
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context).start()
    for scheme, address in zip(("http", "https"), runner.addresses, strict=True):
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, ssl=context)
        async with aiohttp.ClientSession(f"{scheme}://127.0.0.1:{address[1]}", connector=connector) as session:
            await requests(session)
            await asyncio.gather(messages(session, compress=0), messages(session, compress=15))
    await runner.cleanup()
    print(type(asyncio.get_running_loop()).__module__)


asyncio.run(main())
