"""uvicorn: a bare ASGI application, its own server object, shut down as on SIGTERM."""

import asyncio

import uvicorn
from _raw_http import get


async def app(scope, receive, send):  # type: ignore[no-untyped-def]
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


async def main() -> None:
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="error"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    answers = await asyncio.gather(*[get(port) for _ in range(50)])
    assert answers == [(200, b"hello")] * 50
    server.should_exit = True
    await serving
    print(type(asyncio.get_running_loop()).__module__)


asyncio.run(main())
