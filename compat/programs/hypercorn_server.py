"""hypercorn: a bare ASGI application over HTTP/1.1, stopped by its shutdown trigger."""

import asyncio
import socket

from _raw_http import get
from hypercorn.asyncio import serve
from hypercorn.config import Config


async def app(scope, receive, send):  # type: ignore[no-untyped-def]
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


async def main() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        port = listener.getsockname()[1]
        config = Config()
        config.bind = [f"fd://{listener.detach()}"]
        config.errorlog = None
        stop = asyncio.Event()
        serving = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))
        answers = await asyncio.gather(*[get(port) for _ in range(50)])
        assert answers == [(200, b"hello")] * 50
        stop.set()
        await serving
    print(type(asyncio.get_running_loop()).__module__)


asyncio.run(main())
