"""Loops that run at the same time, each in its thread: what they receive is their own, and none sleeps through a call.

On a free-threaded Python they really do; with a GIL threads still take turns in the middle of a system call.
"""

import asyncio
import io
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest
from interpreter import PATIENCE
from tls import NAME, client_context, server_context

import epoll_loop

THREADS = 4
ROUNDS = 1_000
HOPS = 20_000
LIMIT = 60 * PATIENCE

pytestmark = pytest.mark.usefixtures("no_descriptor_left")


def run_in_threads(*mains: Callable[[], Awaitable[None]]) -> None:
    """Run each on a loop in a thread of its own, from the same moment on."""
    errors: list[BaseException] = []
    begin = threading.Barrier(len(mains))

    async def main(each: Callable[[], Awaitable[None]]) -> None:
        begin.wait(LIMIT)
        await asyncio.wait_for(each(), LIMIT)

    def run(each: Callable[[], Awaitable[None]]) -> None:
        try:
            with asyncio.Runner(loop_factory=epoll_loop.new_event_loop) as runner:
                runner.run(main(each))
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=run, args=(each,), daemon=True) for each in mains]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * LIMIT)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def payloads(number: int) -> Iterator[bytes]:
    """What a thread sends: nothing that another one sends is alike, nor is what it sends next."""
    for turn in range(ROUNDS):
        yield f"{number}-{turn}.".encode() * (1 + 97 * turn % 1500)


async def over_tcp(number: int, **tls: object) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    options = {"ssl": server_context()} if tls else {}
    async with await asyncio.start_server(echo, "127.0.0.1", 0, **options) as server:
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address, **tls)
        for sent in payloads(number):
            writer.write(sent)
            assert await reader.readexactly(len(sent)) == sent
        writer.close()
        await writer.wait_closed()


async def over_tls(number: int) -> None:
    await over_tcp(number, ssl=client_context(), **NAME)


async def over_sockets(number: int) -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for end in (ours, theirs):
            end.setblocking(False)
        for sent in payloads(number):
            await loop.sock_sendall(ours, sent)
            got = b""
            while len(got) < len(sent):
                got += await loop.sock_recv(theirs, 65536)
            assert got == sent


async def over_pipe(number: int) -> None:
    loop = asyncio.get_running_loop()
    receiving, sending = os.pipe()
    reader = asyncio.StreamReader()
    incoming, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), io.FileIO(receiving))
    outgoing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, io.FileIO(sending, "wb"))
    for sent in payloads(number):
        outgoing.write(sent)
        assert await reader.readexactly(len(sent)) == sent
    outgoing.close()
    assert await reader.read() == b""
    incoming.close()


async def over_udp(number: int) -> None:
    loop = asyncio.get_running_loop()
    found: asyncio.Queue[bytes] = asyncio.Queue()

    class Receiving(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, address: object) -> None:
            found.put_nowait(data)

    receiving, _ = await loop.create_datagram_endpoint(Receiving, local_addr=("127.0.0.1", 0))
    address = receiving.get_extra_info("sockname")
    sending, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=address)
    for sent in payloads(number):
        sending.sendto(sent[:1400])
        sending.sendto(sent[1400:2800])
        assert await found.get() + await found.get() == sent[:2800]
    sending.close()
    receiving.close()


@pytest.mark.parametrize("way", [over_tcp, over_tls, over_sockets, over_pipe, over_udp])
def test_what_comes_is_their_own(way: Callable[[int], Awaitable[None]]) -> None:
    run_in_threads(*(lambda number=number: way(number) for number in range(THREADS)))


def test_no_call_is_slept_through() -> None:
    """A token goes round, and each loop sleeps until it comes: one lost wake-up, and it never comes again."""
    loops: dict[int, asyncio.AbstractEventLoop] = {}
    done: dict[int, asyncio.Event] = {}
    begin = threading.Barrier(THREADS)

    def take(number: int, hops: int) -> None:
        following = (number + 1) % THREADS
        if hops:
            loops[following].call_soon_threadsafe(take, following, hops - 1)
        else:
            for each, loop in loops.items():
                loop.call_soon_threadsafe(done[each].set)

    async def member(number: int) -> None:
        loops[number] = asyncio.get_running_loop()
        done[number] = asyncio.Event()
        begin.wait(LIMIT)
        if number == 0:
            take(0, HOPS)
        await done[number].wait()
        begin.wait(LIMIT)  # nobody closes his loop while another one calls it

    run_in_threads(*(lambda number=number: member(number) for number in range(THREADS)))


def test_calls_from_many_threads_at_once_all_come_in_order() -> None:
    """The loop is about to sleep, sleeps or takes what came, each time that somebody calls."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        got: list[list[int]] = [[] for _ in range(THREADS)]
        ended = asyncio.Event()

        def take(number: int, turn: int) -> None:
            got[number].append(turn)
            if all(len(turns) == HOPS for turns in got):
                ended.set()

        def call(number: int) -> None:
            for turn in range(HOPS):
                loop.call_soon_threadsafe(take, number, turn)

        threads = [threading.Thread(target=call, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        await ended.wait()
        for thread in threads:
            thread.join(LIMIT)
        assert got == [list(range(HOPS))] * THREADS

    run_in_threads(main)
