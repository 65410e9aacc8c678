"""Frameworks run without the private names of asyncio's loops; and what needs them is refused in clear words."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

import epoll_loop

ROOT = Path(epoll_loop.__file__).parent.parent


def private_names():
    loop = asyncio.SelectorEventLoop()
    names = {name for name in {*dir(loop), *vars(loop)} if name.startswith("_") and not name.startswith("__")}
    loop.close()
    return names


PRIVATE = private_names()


class Recording(epoll_loop.Loop):
    """Notes which private names of asyncio's loop somebody else than this package asks for."""

    asked: set[str] = set()

    def __init__(self):
        super().__init__()
        self.set_debug(False)  # in which the loop asks itself

    def __getattribute__(self, name):
        if name in PRIVATE and not sys._getframe(1).f_globals["__name__"].startswith("epoll_loop."):
            Recording.asked.add(name)
        return super().__getattribute__(name)


@pytest.fixture
def asked():
    Recording.asked = set()
    return Recording.asked


def test_they_are_seen(asked):
    assert {"_ready", "_scheduled", "_selector", "_run_once"} <= PRIVATE
    loop = Recording()
    assert len(loop._ready) == 0
    with pytest.raises(AttributeError):
        _ = loop._selector
    loop.close()
    assert asked == {"_ready", "_selector"}


def test_asyncio_asks_for_none(asked):
    async def answer(reader, writer):
        writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()

    async def main():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server, asyncio.timeout(20), asyncio.TaskGroup() as group:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            reply = group.create_task(reader.read())
            assert await asyncio.to_thread(int, 7) == 7
            child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
            assert (await child.communicate(b"meow"))[0] == b"meow"
            assert await reply == b"hello\n"
            writer.close()
            await writer.wait_closed()

    with asyncio.Runner(loop_factory=Recording) as runner:
        runner.run(main())
    assert asked == set()


def test_anyio_asks_for_none(asked):
    anyio = pytest.importorskip("anyio")
    from anyio import from_thread, to_thread
    from anyio.abc import SocketAttribute

    async def answer(stream):
        async with stream:
            await stream.send(await stream.receive())

    async def main():
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
                group.start_soon(listener.serve, answer)
                port = listener.extra(SocketAttribute.local_port)
                async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                    await stream.send(b"hello")
                    assert await stream.receive() == b"hello"
                assert await to_thread.run_sync(lambda: from_thread.run(anyio.sleep, 0)) is None
                assert (await anyio.run_process(["echo", "hello"])).stdout == b"hello\n"
                with anyio.move_on_after(0.001) as scope:
                    await anyio.sleep_forever()
                assert scope.cancelled_caught
                group.cancel_scope.cancel()
            await listener.aclose()

    anyio.run(main, backend_options={"loop_factory": Recording})
    assert asked == set()


def test_uvicorn_asks_for_none(asked):
    uvicorn = pytest.importorskip("uvicorn")
    started = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            started.append((await receive())["type"])
            await send({"type": "lifespan.startup.complete"})
            started.append((await receive())["type"])
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": body})

    async def main():
        config = uvicorn.Config(app, port=0, ws="none", lifespan="on", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        async with asyncio.timeout(20):
            while not server.started:
                await asyncio.sleep(0.01)
            address = server.servers[0].sockets[0].getsockname()
            for _ in range(3):
                reader, writer = await asyncio.open_connection(*address)
                writer.write(b"POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello")
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 ")
                assert body == b"hello"
                writer.close()
                await writer.wait_closed()
            server.should_exit = True
            await serving

    with asyncio.Runner(loop_factory=Recording) as runner:
        runner.run(main())
    assert started == ["lifespan.startup", "lifespan.shutdown"]
    assert asked == set()


# --- nest_asyncio lets a running loop run again, and puts its own _run_once() in the place of asyncio's for that

NEST_IN_THE_OPEN = """
import asyncio, {module}
async def main(): pass
{module}.apply()
asyncio.run(main())
"""
NEST_WHILE_RUNNING = """
import asyncio, {module}
async def main(): {module}.apply()
asyncio.run(main())
"""


@pytest.mark.parametrize("program", [NEST_IN_THE_OPEN, NEST_WHILE_RUNNING], ids=["in the open", "while running"])
@pytest.mark.parametrize("module", ["nest_asyncio", "nest_asyncio2"])
def test_nest_asyncio_is_refused_by_name(module, program):
    pytest.importorskip(module)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "epoll_loop", "-c", program.format(module=module)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 1
    assert "ValueError: Can't patch loop of type <class 'epoll_loop.loop.Loop'>\n" in done.stderr
