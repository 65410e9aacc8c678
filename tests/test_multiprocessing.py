"""multiprocessing from a running program, in each of its ways: the child has a loop of its own, the parent goes on."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

import epoll_loop

ROOT = Path(epoll_loop.__file__).parent.parent
# On asyncio's own loop once: that proves the programs right.
WAYS = [("asyncio", "spawn"), *(("epoll_loop", way) for way in multiprocessing.get_all_start_methods())]

# What all programs have: a server of the parent, and one connection to it that is open from beginning to end. All that
# a child does wrong to the parent's descriptors or to its epoll set would show there.
COMMON = '''
import asyncio, concurrent.futures, contextlib, multiprocessing, os, signal, sys
import {module} as chosen

way = multiprocessing.get_context("{way}")

def run(main):
    with asyncio.Runner(loop_factory=chosen.new_event_loop) as runner:
        return runner.run(main)

async def readable(fd):
    """Wait for a descriptor, by the loop."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    loop.add_reader(fd, event.set)
    await event.wait()
    loop.remove_reader(fd)

handlers = set()

async def echo(reader, writer):
    handlers.add(asyncio.current_task())
    while line := await reader.readline():
        writer.write(line)
    writer.close()
    await writer.wait_closed()

async def ask(reader, writer, rounds=10):
    for number in range(rounds):
        writer.write(b"%d\\n" % number)
        assert await reader.readline() == b"%d\\n" % number

@contextlib.asynccontextmanager
async def serving():
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address)
        await ask(reader, writer)
        yield address
        await ask(reader, writer)
        again = await asyncio.open_connection(*address)
        await ask(*again)
        for each in (writer, again[1]):
            each.close()
            await each.wait_closed()
        await asyncio.gather(*handlers)

async def main():
    async with asyncio.timeout(40), serving() as address:
        await parent(address)
    print("ok")

def start():
    if __name__ == "__main__":
        run(main())
'''

PROCESSES = '''
async def as_client(address):
    reader, writer = await asyncio.open_connection(*address)
    await ask(reader, writer)
    child = await asyncio.create_subprocess_exec("true")
    assert await child.wait() == 0
    writer.close()
    await writer.wait_closed()

def child(address, status):
    run(as_client(address))
    sys.exit(status)

async def parent(address):
    """Each is waited for by its sentinel, which add_reader() takes."""
    processes = [way.Process(target=child, args=(address, status), daemon=True) for status in range(3)]
    for process in processes:
        process.start()
    await asyncio.gather(*(readable(process.sentinel) for process in processes))
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 1, 2]

start()
'''

KILLED = '''
async def forever():
    await asyncio.Event().wait()

def child():
    run(forever())

async def parent(address):
    process = way.Process(target=child, daemon=True)
    process.start()
    exited = asyncio.create_task(readable(process.sentinel))
    await asyncio.sleep(0)
    process.kill()
    await exited
    process.join(30)
    assert process.exitcode == -signal.SIGKILL

start()
'''

POOL = '''
def square(number):
    return number * number, os.getpid()

def on_a_loop(number):
    return run(asyncio.sleep(0, number))

def fail():
    raise LookupError("of the child")

async def parent(address):
    loop = asyncio.get_running_loop()
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=way) as pool:
        found = await asyncio.gather(*(loop.run_in_executor(pool, square, number) for number in range(50)))
        assert [result for result, _ in found] == [number * number for number in range(50)]
        assert os.getpid() not in {{pid for _, pid in found}}
        assert await loop.run_in_executor(pool, on_a_loop, 7) == 7
        try:
            await loop.run_in_executor(pool, fail)
        except LookupError as exc:
            assert str(exc) == "of the child"
        else:
            raise AssertionError("nothing came back")
        await asyncio.to_thread(pool.shutdown)

start()
'''

CONNECTIONS = '''
def child(connection, queue):
    connection.send("ready")
    while (value := connection.recv()) is not None:
        connection.send(value * 2)
    for number in range(100):
        queue.put(number)

async def receive(connection):
    while not connection.poll():
        await readable(connection.fileno())
    return connection.recv()

async def parent(address):
    """Descriptors of multiprocessing, watched by the loop; they are blocking, and stay so."""
    ours, theirs = way.Pipe()
    queue = way.Queue()
    process = way.Process(target=child, args=(theirs, queue), daemon=True)
    process.start()
    theirs.close()
    assert await receive(ours) == "ready"
    for number in range(20):
        ours.send(bytes(number))
        assert await receive(ours) == bytes(2 * number)
    ours.send(None)
    numbers = []
    while len(numbers) < 100:
        await readable(queue._reader.fileno())
        while not queue.empty():
            numbers.append(queue.get())
    assert numbers == list(range(100))
    await readable(process.sentinel)
    process.join(30)
    assert process.exitcode == 0
    assert os.get_blocking(ours.fileno())
    ours.close()
    queue.close()

start()
'''

PROGRAMS = {"processes": PROCESSES, "killed": KILLED, "pool": POOL, "connections": CONNECTIONS}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(("module", "way"), WAYS)
def test_from_a_running_program(tmp_path, module, way, program):
    file = tmp_path / "program.py"
    file.write_text((COMMON + PROGRAMS[program]).format(module=module, way=way))
    done = subprocess.run(
        # A fork with threads is deprecated, and what some of this is about.
        [sys.executable, "-W", "ignore::DeprecationWarning", str(file)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")
