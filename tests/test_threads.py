"""A loop and threads: work handed in and out, loops in threads of their own.

asyncio's own loop has to pass the same tests.
"""

import asyncio
import concurrent.futures
import contextvars
import os
import queue
import signal
import threading
from collections.abc import Callable

import pytest

import epoll_loop

LOOPS = {"asyncio": asyncio.SelectorEventLoop, "epoll_loop": epoll_loop.new_event_loop}
LIMIT = 30  # seconds after which a wait has failed; nothing here takes one


@pytest.fixture(params=LOOPS)
def make(request) -> Callable[[], asyncio.AbstractEventLoop]:
    return LOOPS[request.param]


@pytest.fixture
def loop(make):
    new = make()
    yield new
    new.run_until_complete(new.shutdown_default_executor())
    new.close()


@pytest.fixture
def elsewhere(make):
    """A loop that runs in another thread."""
    new = make()
    thread = threading.Thread(target=new.run_forever)
    thread.start()
    yield new
    new.call_soon_threadsafe(new.stop)
    thread.join(LIMIT)
    assert not thread.is_alive()
    new.close()


# --- run_coroutine_threadsafe


async def ident():
    await asyncio.sleep(0)
    return threading.get_ident()


def test_a_coroutine_for_another_thread(elsewhere):
    for _ in range(100):  # the loop is asleep or about to be
        found = asyncio.run_coroutine_threadsafe(ident(), elsewhere).result(LIMIT)
        assert found != threading.get_ident()


def test_its_exception_comes_back(elsewhere):
    async def fail():
        await asyncio.sleep(0)
        raise LookupError("of the other thread")

    with pytest.raises(LookupError, match="of the other thread"):
        asyncio.run_coroutine_threadsafe(fail(), elsewhere).result(LIMIT)


def test_it_can_be_cancelled(elsewhere):
    started, ended = threading.Event(), threading.Event()

    async def wait():
        started.set()
        try:
            await asyncio.sleep(1000)
        finally:
            ended.set()

    future = asyncio.run_coroutine_threadsafe(wait(), elsewhere)
    assert started.wait(LIMIT)
    assert future.cancel()
    assert ended.wait(LIMIT)
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(LIMIT)


def test_one_loop_waits_for_another(loop, elsewhere):
    async def main():
        futures = [asyncio.run_coroutine_threadsafe(ident(), elsewhere) for _ in range(50)]
        return set(await asyncio.gather(*map(asyncio.wrap_future, futures)))

    (found,) = loop.run_until_complete(main())
    assert found != threading.get_ident()


def test_many_threads_at_once(elsewhere):
    count = 0

    async def add():
        nonlocal count
        before = count
        await asyncio.sleep(0)
        count += 1
        return before

    with concurrent.futures.ThreadPoolExecutor(8) as executor:
        found = executor.map(
            lambda _: asyncio.run_coroutine_threadsafe(add(), elsewhere).result(LIMIT), range(400)
        )
        assert len(list(found)) == 400
    assert count == 400


def test_what_one_thread_sends_stays_in_order(elsewhere):
    seen: list[tuple[int, int]] = []

    def send(thread):
        for number in range(500):
            elsewhere.call_soon_threadsafe(seen.append, (thread, number))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), elsewhere).result(LIMIT)
    for thread in range(4):
        assert [number for of, number in seen if of == thread] == list(range(500))


# --- to_thread


def test_to_thread(loop):
    variable = contextvars.ContextVar("variable", default="outside")

    def work(a, *, b):
        return a, b, variable.get(), threading.get_ident()

    async def main():
        variable.set("inside")
        return await asyncio.gather(*(asyncio.to_thread(work, number, b="b") for number in range(50)))

    found = loop.run_until_complete(main())
    assert [entry[:3] for entry in found] == [(number, "b", "inside") for number in range(50)]
    assert threading.get_ident() not in {entry[3] for entry in found}


def test_to_thread_and_back(loop):
    async def main():
        def work():
            return asyncio.run_coroutine_threadsafe(ident(), loop).result(LIMIT)

        assert await asyncio.to_thread(work) == threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)

    loop.run_until_complete(main())


# --- a loop in each thread


async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def ask(address, rounds):
    async with asyncio.timeout(LIMIT):
        reader, writer = await asyncio.open_connection(*address)
        for number in range(rounds):
            writer.write(b"%d\n" % number)
            assert await reader.readline() == b"%d\n" % number
        writer.close()
        await writer.wait_closed()
    return rounds


def test_servers_and_clients_in_threads(make):
    """Each with a loop of its own, and all that they share is the kernel."""

    def serve(addresses, over):
        async def main():
            async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
                addresses.put_nowait(server.sockets[0].getsockname())
                await asyncio.to_thread(over.wait, LIMIT)

        with asyncio.Runner(loop_factory=make) as runner:
            runner.run(main())

    def client(address):
        with asyncio.Runner(loop_factory=make) as runner:
            return sum(runner.run(gather(address)))

    async def gather(address):
        return await asyncio.gather(*(ask(address, 20) for _ in range(5)))

    addresses: queue.Queue[tuple[str, int]] = queue.Queue()
    over = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(8) as executor:
        servers = [executor.submit(serve, addresses, over) for _ in range(2)]
        found = [addresses.get(timeout=LIMIT) for _ in servers]
        clients = [executor.submit(client, address) for address in found * 3]
        try:
            assert [each.result(LIMIT) for each in clients] == [100] * 6
        finally:
            over.set()
        for server in servers:
            server.result(LIMIT)


def test_made_in_one_thread_and_run_in_others(make):
    loop = make()
    found = []

    def run():
        found.append(loop.run_until_complete(ident()))

    for _ in range(3):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(LIMIT)
    run()
    loop.close()
    assert len(found) == 4
    assert found[-1] == threading.get_ident()


def test_children_of_a_loop_in_a_thread(elsewhere):
    async def main():
        child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        output, _ = await child.communicate(b"meow")
        return output, child.returncode

    assert asyncio.run_coroutine_threadsafe(main(), elsewhere).result(LIMIT) == (b"meow", 0)


def test_signals_are_the_main_threads(elsewhere):
    async def main():
        with pytest.raises((ValueError, RuntimeError)):
            elsewhere.add_signal_handler(signal.SIGUSR1, print)

    asyncio.run_coroutine_threadsafe(main(), elsewhere).result(LIMIT)


def test_signals_while_another_thread_runs_its_loop(loop, elsewhere):
    async def main():
        told = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, told.set)
        elsewhere.call_soon_threadsafe(os.kill, os.getpid(), signal.SIGUSR1)
        async with asyncio.timeout(LIMIT):
            await told.wait()
        assert loop.remove_signal_handler(signal.SIGUSR1)

    loop.run_until_complete(main())
