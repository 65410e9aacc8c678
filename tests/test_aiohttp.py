"""aiohttp, which knows nothing of this loop: its server and its client."""

import asyncio
import contextlib
import http.client
import io
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

LARGE = 3_000_000
SLOW = web.AppKey("slow", tuple[asyncio.Event, asyncio.Event])


async def text(request: web.Request) -> web.Response:
    return web.Response(text="hello")


async def as_json(request: web.Request) -> web.Response:
    return web.json_response({"method": request.method, "query": dict(request.query)})


async def upload(request: web.Request) -> web.Response:
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
    return web.json_response({"size": size})


async def download(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(30):
        await response.write(b"d" * (LARGE // 30))
    await response.write_eof()
    return response


async def fail(request: web.Request) -> web.Response:
    raise ValueError("handler")


async def socket_echo(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        if message.type is aiohttp.WSMsgType.TEXT:
            await ws.send_str(message.data)
        else:
            await ws.send_bytes(message.data)
    return ws


async def slow(request: web.Request) -> web.Response:
    started, cancelled = request.app[SLOW]
    started.set()
    try:
        await asyncio.Event().wait()
    finally:
        cancelled.set()
    raise AssertionError


@contextlib.asynccontextmanager
async def serving(path: Path | None = None, **kwargs: Any) -> AsyncIterator[tuple[web.Application, Any]]:
    """The application, and where it is served."""
    app = web.Application(client_max_size=LARGE * 2)
    app[SLOW] = asyncio.Event(), asyncio.Event()
    app.add_routes(
        [
            web.get("/", text),
            web.route("*", "/json", as_json),
            web.post("/upload", upload),
            web.get("/download", download),
            web.get("/fail", fail),
            web.get("/ws", socket_echo),
            web.get("/slow", slow),
        ]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, **kwargs)
    await runner.setup()
    try:
        if path is None:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield app, runner.addresses[0]
        else:
            await web.UnixSite(runner, str(path)).start()
            yield app, path
    finally:
        await runner.cleanup()


Ask = Callable[..., Coroutine[Any, Any, tuple[int, bytes]]]


@contextlib.asynccontextmanager
async def plain_client(address: Any) -> AsyncIterator[Ask]:
    """A client of the standard library, in a thread, on one kept connection."""
    connection = http.client.HTTPConnection(*address[:2], timeout=20)

    def ask(method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()

    async def in_thread(*args: Any) -> tuple[int, bytes]:
        return await asyncio.to_thread(ask, *args)

    try:
        yield in_thread
    finally:
        connection.close()


async def test_keep_alive() -> None:
    async with serving() as (_, address), plain_client(address) as ask:
        for i in range(50):
            assert await ask("GET", "/") == (200, b"hello")
            status, body = await ask("GET", f"/json?i={i}")
            assert (status, json.loads(body)) == (200, {"method": "GET", "query": {"i": str(i)}})


async def test_bodies() -> None:
    async with serving() as (_, address), plain_client(address) as ask:
        status, body = await ask("POST", "/upload", b"u" * LARGE)
        assert (status, json.loads(body)) == (200, {"size": LARGE})
        assert await ask("GET", "/download") == (200, b"d" * LARGE)
        pieces = iter([b"p" * 100_000] * 10)
        status, body = await ask("POST", "/upload", pieces)
        assert (status, json.loads(body)) == (200, {"size": 1_000_000})


async def test_errors_leave_the_connection_usable(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as (_, address), plain_client(address) as ask:
        assert (await ask("GET", "/nothing"))[0] == 404
        assert (await ask("GET", "/fail"))[0] == 500
        assert "handler" in caplog.text
        assert await ask("GET", "/") == (200, b"hello")


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving() as (_, address):
        with socket.create_connection(address, timeout=20) as client:
            requests = b"".join(b"GET /json?i=%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(30))
            client.sendall(requests)
            found = b""
            while found.count(b'"query"') < 30:
                found += await asyncio.to_thread(client.recv, 65536)
            assert [found.index(b'"i": "%d"' % i) for i in range(30)] == sorted(
                found.index(b'"i": "%d"' % i) for i in range(30)
            )


async def test_client_that_goes_away_cancels_the_handler() -> None:
    async with serving(handler_cancellation=True) as (app, address):
        started, cancelled = app[SLOW]
        with socket.create_connection(address) as client:
            client.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            await started.wait()
        await cancelled.wait()


async def test_many_connections_at_once() -> None:
    async with serving() as (_, address):
        problems: list[BaseException] = []

        def client() -> None:
            try:
                connection = http.client.HTTPConnection(*address[:2], timeout=20)
                for _ in range(20):
                    connection.request("GET", "/")
                    assert connection.getresponse().read() == b"hello"
                connection.close()
            except BaseException as exc:
                problems.append(exc)

        threads = [threading.Thread(target=client) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert not problems


async def test_client_over_a_unix_socket(tmp_path: Path) -> None:
    async with serving(tmp_path / "socket") as (_, path):
        connector = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession("http://localhost", connector=connector) as session:
            await use(session)


async def test_client_over_tcp() -> None:
    async with serving() as (_, address), aiohttp.ClientSession(f"http://127.0.0.1:{address[1]}") as session:
        await use(session)


async def use(session: aiohttp.ClientSession) -> None:
    """Everything that a client does."""
    for _ in range(3):
        async with session.get("/") as response:
            assert response.status == 200
            assert await response.text() == "hello"
    async with session.post("/upload", data=io.BytesIO(b"u" * LARGE)) as response:
        assert await response.json() == {"size": LARGE}
    async with session.get("/download") as response:
        size = 0
        async for chunk in response.content.iter_chunked(10_000):
            size += len(chunk)
        assert size == LARGE
    async with session.ws_connect("/ws") as ws:
        for i in range(20):
            await ws.send_str(str(i))
            assert (await ws.receive()).data == str(i)
        await ws.send_bytes(b"b" * 1_000_000)
        assert (await ws.receive()).data == b"b" * 1_000_000
    answers = await asyncio.gather(*(session.get("/json", params={"i": i}) for i in range(30)))
    for i, response in enumerate(answers):
        assert (await response.json())["query"] == {"i": str(i)}
