"""anyio's plugin for pytest: fixtures and tests on one runner, a TCP server and its clients, a worker thread."""

from _project import run_pytest

CONFTEST = """
import epoll_loop
import pytest

@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio", {"loop_factory": epoll_loop.new_event_loop}
"""

TESTS = """
import anyio
import pytest
from anyio.abc import SocketAttribute
from work import MIB, note

pytestmark = pytest.mark.anyio

@pytest.fixture(scope="module")
async def port():
    async def echo(stream):
        async with stream:
            async for data in stream:
                await stream.send(data)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as serving:
        serving.start_soon(listener.serve, echo)
        yield listener.extra(SocketAttribute.local_port)
        serving.cancel_scope.cancel()

async def client(port, data):
    async with await anyio.connect_tcp("127.0.0.1", port) as stream, anyio.create_task_group() as both:

        async def send():
            await stream.send(data)
            await stream.send_eof()

        both.start_soon(send)
        assert b"".join([received async for received in stream]) == data

@pytest.mark.parametrize("data", [b"", b"x", MIB], ids=len)
async def test_clients(port, data):
    note()
    async with anyio.create_task_group() as clients:
        for _ in range(20):
            clients.start_soon(client, port, data)

async def test_thread(port):
    note()
    await anyio.to_thread.run_sync(anyio.from_thread.run, client, port, MIB)
"""

print(run_pytest({"conftest.py": CONFTEST, "test_anyio.py": TESTS}, "test_anyio.py", passed=4))
