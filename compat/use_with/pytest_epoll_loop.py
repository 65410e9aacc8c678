"""pytest --epoll-loop: the tests of a project that knows nothing of the loop, in each of the usual ways."""

from importlib.metadata import entry_points

from _project import run_pytest

TESTS = """
import asyncio
import unittest
import pytest
from work import MIB, cat, client, echo, note

async def server_and_clients():
    note()
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await asyncio.gather(*[client(port, MIB) for _ in range(10)])

def test_run():
    asyncio.run(server_and_clients())

def test_runner():
    with asyncio.Runner() as runner:
        runner.run(server_and_clients())

@pytest.mark.anyio
async def test_anyio(anyio_backend):
    await server_and_clients()

class TestCase(unittest.IsolatedAsyncioTestCase):
    async def test_method(self):
        await server_and_clients()

    async def test_subprocess(self):
        note()
        await cat(MIB)
"""

# A checkout that is not installed has no entry point.
installed = bool(entry_points(group="pytest11", name="epoll_loop"))
plugin = [] if installed else ["-p", "epoll_loop.pytest_plugin"]
print(run_pytest({"test_more.py": TESTS}, *plugin, "--epoll-loop", passed=9))
