"""`aiohttp_app:app`, the answers of `app.py` by aiohttp."""

from aiohttp import web
from app import LONG, identity


async def who(request: web.Request) -> web.Response:
    assert request.transport is not None
    return web.json_response(identity() | {"client": request.transport.get_extra_info("peername")[1]})


async def echo(request: web.Request) -> web.StreamResponse:
    return await respond(request, [piece async for piece in request.content.iter_any()])


async def long(request: web.Request) -> web.StreamResponse:
    return await respond(request, [bytes(2**16)] * LONG)


async def respond(request: web.Request, pieces: list[bytes]) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    assert request.transport is not None
    request.transport.set_write_buffer_limits(0)  # at its end the worker does not wait for what a transport still holds
    for piece in pieces:
        await response.write(piece)
    return response


async def say(app: web.Application) -> None:
    print("shut down", flush=True)


app = web.Application()
app.add_routes([web.get("/", who), web.post("/echo", echo), web.get("/long", long)])
app.on_cleanup.append(say)
