"""`app:app`, an ASGI application: who answers, an echo of a body, a long answer, an echo of WebSocket messages."""

import asyncio
import json
import os

LONG = 256  # pieces of 64 KiB, by far more than all buffers between server and client hold


async def app(scope, receive, send):  # type: ignore[no-untyped-def]
    match scope["type"]:
        case "lifespan":
            await lifespan(receive, send)
        case "websocket":
            await websocket(receive, send)
        case "http":
            await ANSWERS[scope["path"]](scope, receive, send)


async def lifespan(receive, send):  # type: ignore[no-untyped-def]
    assert (await receive())["type"] == "lifespan.startup"
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    print("shut down", flush=True)
    await send({"type": "lifespan.shutdown.complete"})


async def who(scope, receive, send):  # type: ignore[no-untyped-def]
    await respond(send, [json.dumps(identity() | {"client": scope["client"][1]}).encode()])


async def echo(scope, receive, send):  # type: ignore[no-untyped-def]
    pieces = []
    more = True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    await respond(send, pieces)


async def long(scope, receive, send):  # type: ignore[no-untyped-def]
    await respond(send, [bytes(2**16)] * LONG)


async def respond(send, pieces):  # type: ignore[no-untyped-def]
    """Answer without the length, so that HTTP/1.1 has to send chunks."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})


async def websocket(receive, send):  # type: ignore[no-untyped-def]
    """Echo; the text "who" is answered with who answers."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "who":
            await send({"type": "websocket.send", "text": json.dumps(identity())})
        elif message.get("text") is not None:
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


def identity() -> dict[str, object]:
    return {"loop": type(asyncio.get_running_loop()).__module__, "pid": os.getpid()}


ANSWERS = {"/": who, "/echo": echo, "/long": long}
