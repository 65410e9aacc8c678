"""Descriptors closed, duplicated, reopened and handed on behind the loop's back: no callback sees another's event.

Storms of random steps: of callbacks, in the middle of a batch of events, and of threads beside the loop. `SEED` repeats
a failure (of threads, not exactly), `STEPS` makes a storm longer.
"""

import asyncio
import contextlib
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from interpreter import PATIENCE
from storm_files import Acceptor, Connection, File, Reader, ReaderAndWriter, Receiver, Writer

STEPS = int(os.environ.get("STEPS", "5000"))
LIMIT = 20 * PATIENCE + STEPS / 100  # seconds after which a wait has failed; nothing here takes one
FILES = 20
BURST = 8  # files to which something happens at once
KINDS: list[type[File]] = [Reader, Reader, Writer, ReaderAndWriter, Receiver, Acceptor, Connection]

# What is done to a file, and how often.
BY_ANYBODY = {"poke": 8, "leave": 3, "duplicate": 2, "bury": 2, "hang_up": 1}
BY_ITS_LOOP = {**BY_ANYBODY, "close": 2, "register": 1}

pytestmark = [pytest.mark.usefixtures("no_descriptor_left", "quick_switches"), pytest.mark.timeout(4 * LIMIT)]


@pytest.fixture
def seed() -> int:
    return int(os.environ.get("SEED", 0)) or random.randrange(1, 1 << 32)


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Threads take turns far more often than they usually do."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


class Storm:
    """Files, and what happens to them."""

    def __init__(self, seed: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(lambda _, context: self.wrong(repr(context)))
        self.random = random.Random(seed)  # the loop's
        self.lock = threading.Lock()
        self.files: list[File] = []
        self.owners: dict[int, File] = {}
        self.wrongs: list[str] = []
        self.steps = 0
        self.over = False  # something went wrong, or all is done

    def wrong(self, what: str) -> None:
        self.wrongs.append(what)

    def step(self, rng: random.Random, steps: dict[str, int], register: Callable[[Callable[[], None]], Any]) -> None:
        """Do one thing to one file, or open a new one; it takes the place of an old one if there are enough."""
        self.steps += 1
        with self.lock:
            file = rng.choice(self.files) if self.files else None
            too_many = len(self.files) > 2 * FILES
        if file is not None and (too_many or rng.random() < 0.7):
            (name,) = rng.choices(list(steps), list(steps.values()))
            if name != "poke" or not file.is_silent:
                getattr(file, name)()
            return
        kind = rng.choice(KINDS)
        new = kind(self, rng.choice(kind.KINDS), silent=rng.random() < 0.5)
        if file is not None and rng.random() < 0.5:
            if rng.random() < 0.5:
                file.duplicate()
            file.give_number_to(new)
        with self.lock:
            self.files.append(new)
            enough = len(self.files) > FILES
        register(new.register)
        if enough:
            register(self.retire)

    def step_of_loop(self) -> None:
        self.step(self.random, BY_ITS_LOOP, lambda callback: callback())

    def retire(self) -> None:
        """Close the oldest file."""
        with self.lock:
            file = self.files.pop(0)
        file.close()
        file.bury()
        if file.exists:  # a transport, which closes later
            with self.lock:
                self.files.append(file)

    def thread(self, seed: str) -> None:
        rng = random.Random(seed)
        try:
            for _ in range(STEPS):
                if self.over:
                    return
                self.step(rng, BY_ANYBODY, self.loop.call_soon_threadsafe)
                if rng.random() < 0.2:
                    time.sleep(rng.random() / 2000)
        except BaseException as exc:
            self.wrong(repr(exc))
            raise

    async def blow(self, threads: int, seed: int) -> None:
        running = [
            threading.Thread(target=self.thread, args=(f"{seed} {i}",), name=f"storm {i}", daemon=True)
            for i in range(threads)
        ]
        for thread in running:
            thread.start()

        def left() -> list[File]:
            if self.steps >= STEPS and not any(thread.is_alive() for thread in running):
                return []
            self.step_of_loop()
            with self.lock:
                burst = self.random.sample(self.files, min(BURST, len(self.files)))
            for file in burst:
                if not file.is_silent:
                    file.poke()
            return self.files

        try:
            await self.until(left)
        finally:
            self.over = True
            for thread in running:
                thread.join()

    async def settle(self) -> None:
        """Whatever is open and watched is told of once more."""
        await asyncio.sleep(0)  # registers what came last
        for file in self.files:
            file.after = lambda: None
            if file.registered:
                file.poke()
        await self.until(lambda: [file for file in self.files if file.registered and file.is_open and file.ready])

    async def end(self) -> None:
        def left() -> list[File]:
            for _ in range(len(self.files)):
                self.retire()
            return self.files

        await self.until(left)

    async def until(self, left: Callable[[], list[File]]) -> None:
        try:
            async with asyncio.timeout(LIMIT):
                while left():
                    await asyncio.sleep(self.random.choice([0, 0, 0.0002, 0.001]))
        except TimeoutError:
            self.wrong(f"no end of {[file.name for file in left()]}")


@pytest.mark.parametrize("threads", [0, 3])
async def test_a_storm(threads: int, seed: int) -> None:
    storm = Storm(seed)
    await storm.blow(threads, seed)
    await storm.settle()
    await storm.end()
    assert not storm.wrongs, f"SEED={seed}: {len(storm.wrongs)}: {storm.wrongs[:5]}"
    assert storm.steps >= STEPS


# --- connections that come and go while other threads take their numbers

CONNECTIONS = 1500
AT_ONCE = 20
SIZE = 8  # of a question, which no other connection has


class Answering(asyncio.Protocol):
    """Sends a question back, in reverse order."""

    def __init__(self, connected: set[asyncio.Protocol]) -> None:
        self.connected = connected

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.connected.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connected.remove(self)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data[::-1])


class Asking(asyncio.Protocol):
    def __init__(self, question: bytes) -> None:
        self.question = question
        self.answer = b""
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self.question)

    def data_received(self, data: bytes) -> None:
        self.answer += data
        if len(self.answer) >= SIZE:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


async def ask_by_transport(address: Any, question: bytes) -> bytes:
    _, client = await asyncio.get_running_loop().create_connection(lambda: Asking(question), *address)
    assert await client.lost is None
    return client.answer


async def ask_by_socket(address: Any, question: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    answer = b""
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
        await loop.sock_sendall(sock, question)
        while len(answer) < SIZE:
            answer += await loop.sock_recv(sock, 100) or b"nothing more"
    return answer


async def answer_by_socket(listening: socket.socket) -> None:
    loop = asyncio.get_running_loop()

    async def answer(sock: socket.socket) -> None:
        with sock:
            while data := await loop.sock_recv(sock, 100):
                await loop.sock_sendall(sock, data[::-1])

    async with asyncio.TaskGroup() as group:
        while True:
            sock, _ = await loop.sock_accept(listening)
            group.create_task(answer(sock))


def take_numbers(seed: str, done: threading.Event) -> None:
    """Open and close descriptors, and keep the files of others open for a while after they have closed them."""
    rng = random.Random(seed)
    taken: list[int] = []
    while not done.is_set():
        if rng.random() < 0.5:
            taken.extend(os.pipe())
        else:
            with contextlib.suppress(OSError):  # not open just now
                taken.append(os.dup(rng.randrange(3, 4 * AT_ONCE)))
        while len(taken) > rng.randrange(1, 8):
            os.close(taken.pop(rng.randrange(len(taken))))
    for fd in taken:
        os.close(fd)


async def test_no_answer_reaches_another_connection(seed: int) -> None:
    loop = asyncio.get_running_loop()
    questions = iter(range(CONNECTIONS))
    connected: set[asyncio.Protocol] = set()
    done = threading.Event()
    threads = [threading.Thread(target=take_numbers, args=(f"{seed} {i}", done), daemon=True) for i in range(2)]

    async def ask(addresses: list[Any]) -> None:
        for number in questions:
            rng = random.Random(f"{seed} {number}")
            question = rng.randbytes(SIZE)
            asking = rng.choice([ask_by_transport, ask_by_socket])
            assert await asking(rng.choice(addresses), question) == question[::-1], f"SEED={seed}"

    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    with listening:
        answering = asyncio.create_task(answer_by_socket(listening))
        async with await loop.create_server(lambda: Answering(connected), "127.0.0.1", 0) as server:
            addresses = [listening.getsockname(), server.sockets[0].getsockname()]
            for thread in threads:
                thread.start()
            try:
                async with asyncio.timeout(2 * LIMIT), asyncio.TaskGroup() as group:
                    for _ in range(AT_ONCE):
                        group.create_task(ask(addresses))
            finally:
                done.set()
                for thread in threads:
                    await asyncio.to_thread(thread.join, LIMIT)
            async with asyncio.timeout(LIMIT):
                while connected:
                    await asyncio.sleep(0.001)
        answering.cancel()
        await asyncio.wait([answering])
    await loop.shutdown_default_executor()
