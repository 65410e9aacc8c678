"""The options and variables that people debug with: a program runs under each, and nobody has anything to say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import epoll_loop

ROOT = Path(epoll_loop.__file__).parent.parent
PROGRAM = """
import asyncio, gc, os, signal, socket, sys
import epoll_loop

def check(value):  # an assertion would not be there with -O
    if not value:
        raise AssertionError

async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()
    await writer.wait_closed()

async def ask(address):
    reader, writer = await asyncio.open_connection(*address)
    for size in (1, 1000, 60_000):
        writer.write(b"x" * size + b"\\n")
        check(len(await reader.readline()) == size + 1)
    writer.write_eof()
    check(await reader.read() == b"")
    writer.close()
    await writer.wait_closed()

class Answer(asyncio.DatagramProtocol):
    def connection_made(self, transport): self.transport = transport
    def datagram_received(self, data, peer): self.transport.sendto(data * 2, peer)

async def datagrams(loop):
    transport, _ = await loop.create_datagram_endpoint(Answer, ("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        await loop.sock_sendto(sock, b"hello", transport.get_extra_info("sockname"))
        check(await loop.sock_recv(sock, 100) == b"hellohello")
    transport.close()
    await asyncio.sleep(0)

async def generate():
    try:
        while True:
            yield 1
    finally:
        await asyncio.sleep(0)

async def main():
    loop = asyncio.get_running_loop()
    loop.slow_callback_duration = 1000
    async with asyncio.timeout(30):
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            await asyncio.gather(*(ask(server.sockets[0].getsockname()) for _ in range(10)))
        await datagrams(loop)
        child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        check((await child.communicate(b"meow"))[0] == b"meow")
        check(await asyncio.to_thread(int, 7) == 7)
        told = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, told.set)
        os.kill(os.getpid(), signal.SIGUSR1)
        await told.wait()
        async for one in generate():
            break
        loop.call_later(1000, print).cancel()
        try:
            await asyncio.wait_for(loop.create_future(), 0.001)
        except TimeoutError:
            pass
    gc.collect()
    return loop.get_debug()

print(epoll_loop.run(main()))
gc.collect()
"""


@pytest.mark.parametrize(
    ("options", "variables", "debug"),
    [
        ((), {}, False),
        (("-X", "dev"), {}, True),
        ((), {"PYTHONASYNCIODEBUG": "1"}, True),
        (("-X", "dev"), {"PYTHONASYNCIODEBUG": "1", "PYTHONMALLOC": "malloc_debug"}, True),
        (("-X", "tracemalloc"), {}, False),
        (("-X", "faulthandler"), {}, False),
        (("-OO",), {}, False),
        (("-bb",), {}, False),
    ],
    ids=lambda value: " ".join(value) or "none" if isinstance(value, tuple) else None,
)
def test_a_program_runs(options, variables, debug):
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-W", "error", *options, "-c", PROGRAM],
        env={**env, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{debug}\n", "")
