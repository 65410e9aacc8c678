"""A small project in a folder of its own, and pytest as a command in it."""

import subprocess
import sys
import tempfile
from pathlib import Path

# What the tests of all the projects have in common.
CONTENT = {
    "work.py": """
import asyncio
from pathlib import Path

MIB = bytes(range(256)) * 4096

def note():
    with Path("loops").open("a") as file:
        print(type(asyncio.get_running_loop()).__module__, file=file)

async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()

async def client(port, data):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    writer.write_eof()
    assert await reader.read() == data
    writer.close()
    await writer.wait_closed()

async def cat(data):
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe)
    assert await process.communicate(data) == (data, None)
""",
    # for pytest-asyncio in its strict mode
    "test_asyncio.py": """
import asyncio
import pytest
import pytest_asyncio
from work import MIB, cat, client, echo, note

@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def port():
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]

@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("data", [b"", b"x", MIB], ids=len)
async def test_clients(port, data):
    note()
    await asyncio.gather(*[client(port, data) for _ in range(20)])

@pytest.mark.asyncio
async def test_subprocess():
    note()
    await cat(MIB)
""",
}


def run_pytest(files: dict[str, str], *options: str, passed: int) -> str:
    """Run pytest in a folder with CONTENT and these files, and return the module of the loop that all tests ran on.

    As many tests have to pass and to make a `note()`, and none to fail. SystemExit with pytest's output otherwise.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (CONTENT | files).items():
            Path(folder, name).write_text(text)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=50)
        noted = Path(folder, "loops")
        loops = noted.read_text().split() if noted.exists() else []
    if done.returncode or f"{passed} passed" not in done.stdout or len(loops) != passed or len(set(loops)) != 1:
        sys.exit(f"{done.stdout}{done.stderr}\n{loops}")
    return loops[0]
