"""One socket, several users: coroutines that wait at the same time, callbacks, transports."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
from raw import LARGE, READS, Pair, Read, at_number, drain, now, turns, until_readable, waiting

ASYNCIO_TOO = True
ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])
pytestmark = pytest.mark.usefixtures("no_descriptor_left")
reads = pytest.mark.parametrize("read", READS)


# Several at once


@ours  # asyncio forgets the first
async def test_two_wait_for_one_listener(listener: socket.socket) -> None:
    tasks = [await waiting(now().sock_accept(listener)) for _ in range(2)]
    with socket.create_connection(listener.getsockname()) as first:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await turns()
        assert [task.done() for task in tasks].count(True) == 1
        with socket.create_connection(listener.getsockname()) as second:
            accepted = [await task for task in tasks]
            assert {address for _, address in accepted} == {first.getsockname(), second.getsockname()}
    for connection, _ in accepted:
        connection.close()


@ours
async def test_one_edge_for_two_connections(listener: socket.socket) -> None:
    tasks = [await waiting(now().sock_accept(listener)) for _ in range(2)]
    clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
    for task in [*tasks, asyncio.ensure_future(now().sock_accept(listener))]:
        connection, _ = await task
        connection.close()
    for client in clients:
        client.close()


@ours
@reads
async def test_two_wait_for_one_socket(read: Read, pair: Pair) -> None:
    sock, peer = pair
    tasks = [await waiting(read(sock)) for _ in range(3)]
    tasks[1].cancel()
    await turns()
    peer.send(b"1")
    until_readable(sock)
    await turns()
    assert [task.done() for task in tasks].count(True) == 2
    peer.send(b"2")
    assert sorted([await tasks[0], await tasks[2]]) == [b"1", b"2"]


@ours
async def test_the_end_of_the_stream_is_everybodys(pair: Pair) -> None:
    sock, peer = pair
    tasks = [await waiting(now().sock_recv(sock, 1)) for _ in range(3)]
    peer.close()
    assert [await task for task in tasks] == [b"", b"", b""]


@ours
async def test_two_senders_on_one_socket(pair: Pair) -> None:
    sock, peer = pair
    tasks = [asyncio.ensure_future(now().sock_sendall(sock, letter * 5_000_000)) for letter in (b"a", b"b")]
    data = await drain(peer, 10_000_000)
    assert (data.count(b"a"), data.count(b"b")) == (5_000_000, 5_000_000)
    for task in tasks:
        await task


async def test_one_event_for_both_directions(pair: Pair) -> None:
    sock, peer = pair
    receiver = await waiting(now().sock_recv(sock, 100))
    sender = await waiting(now().sock_sendall(sock, LARGE))
    size = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            size += len(peer.recv(1 << 20))
    peer.send(b"data")
    assert await receiver == b"data"
    await drain(peer, len(LARGE) - size)
    await sender


async def test_both_directions_at_once(pair: Pair) -> None:
    size = 10_000_000
    received = await asyncio.gather(
        *[drain(sock, size) for sock in pair],
        *[now().sock_sendall(sock, bytes([number]) * size) for number, sock in enumerate(pair)],
    )
    assert received == [b"\x01" * size, b"\x00" * size, None, None]


# Beside others


async def test_a_receiver_beside_a_writer_callback(pair: Pair) -> None:
    sock, peer = pair
    writable = asyncio.Event()
    task = await waiting(now().sock_recv(sock, 100))
    now().add_writer(sock, writable.set)
    await writable.wait()
    await turns()
    assert not task.done()
    peer.send(b"data")
    assert await task == b"data"
    task = await waiting(now().sock_recv(sock, 100))
    peer.send(b"more")
    assert await task == b"more"
    writable.clear()
    await writable.wait()
    assert now().remove_writer(sock)
    assert not now().remove_reader(sock)


async def test_a_sender_beside_a_reader_callback(pair: Pair) -> None:
    sock, peer = pair
    received: asyncio.Queue[bytes] = asyncio.Queue()
    now().add_reader(sock, lambda: received.put_nowait(sock.recv(100)))
    task = await waiting(now().sock_sendall(sock, LARGE))
    peer.send(b"data")
    assert await received.get() == b"data"
    await drain(peer, len(LARGE))
    await task
    peer.send(b"more")
    assert await received.get() == b"more"
    assert now().remove_reader(sock)
    assert not now().remove_writer(sock)


async def test_a_receiver_takes_the_place_of_a_reader_callback(pair: Pair) -> None:
    sock, peer = pair
    called: list[str] = []
    now().add_reader(sock, called.append, "called")
    task = await waiting(now().sock_recv(sock, 100))
    peer.send(b"data")
    assert await task == b"data"
    assert not now().remove_reader(sock)
    assert called == []


async def test_a_reader_callback_takes_the_place_of_a_receiver(pair: Pair) -> None:
    """And does not lose it when the receiver is cancelled; there is a writer too, so nothing here goes by edges."""
    sock, peer = pair
    now().add_writer(sock, int)
    task = await waiting(now().sock_recv(sock, 100))
    received: asyncio.Queue[bytes] = asyncio.Queue()
    now().add_reader(sock, lambda: received.put_nowait(sock.recv(100)))
    task.cancel()
    await turns()
    peer.send(b"data")
    assert await received.get() == b"data"
    assert now().remove_reader(sock)
    assert now().remove_writer(sock)


@ours  # asyncio takes the callback from the new socket
async def test_a_cancelled_receiver_leaves_the_callbacks_of_another_socket_alone(pair: Pair) -> None:
    sock, _ = pair
    now().add_writer(sock, int)
    task = await waiting(now().sock_recv(sock, 100))
    task.cancel()
    number = sock.fileno()
    sock.close()
    one, other = socket.socketpair()
    with other, at_number(number, one) as one:
        received: asyncio.Queue[bytes] = asyncio.Queue()
        now().add_reader(one, lambda: received.put_nowait(one.recv(100)))
        await turns()
        assert task.cancelled()
        other.send(b"data")
        assert await received.get() == b"data"
        assert now().remove_reader(one)


async def test_a_reader_callback_after_a_receiver(pair: Pair) -> None:
    """Level-triggered, as `add_reader()` is everywhere, although the receiver got by with edges."""
    sock, peer = pair
    task = await waiting(now().sock_recv(sock, 100))
    peer.send(b"data")
    assert await task == b"data"
    peer.send(b"ab")
    until_readable(sock)
    received: asyncio.Queue[bytes] = asyncio.Queue()
    now().add_reader(sock, lambda: received.put_nowait(sock.recv(1)))
    assert await received.get() == b"a"
    assert await received.get() == b"b"
    assert now().remove_reader(sock)
    task = await waiting(now().sock_recv(sock, 100))
    peer.send(b"after")
    assert await task == b"after"


async def test_a_transport_after_a_receiver(recorder: Any, pair: Pair) -> None:
    sock, peer = pair
    task = await waiting(now().sock_recv(sock, 100))
    peer.send(b"first")
    assert await task == b"first"
    peer.send(b"second")
    transport, protocol = await now().create_connection(recorder, sock=sock)
    await protocol.received.wait()
    assert protocol.data == b"second"
    transport.write(b"answer")
    assert await now().sock_recv(peer, 100) == b"answer"
    transport.close()
    await protocol.lost


async def test_a_transport_after_a_connect(recorder: Any, listener: socket.socket) -> None:
    sock = socket.socket()
    sock.setblocking(False)
    await now().sock_connect(sock, listener.getsockname())
    transport, protocol = await now().create_connection(recorder, sock=sock)
    peer, _ = await now().sock_accept(listener)
    with peer:
        await now().sock_sendall(peer, b"data")
        await protocol.received.wait()
        transport.write(protocol.data)
        assert await now().sock_recv(peer, 100) == b"data"
        transport.close()
        await protocol.lost


WAITS: list[Callable[[Any], Any]] = [*READS, lambda sock: now().sock_sendall(sock, LARGE)]


@pytest.mark.parametrize("wait", WAITS, ids=["recv", "recv_into", "recvfrom", "recvfrom_into", "sendall"])
async def test_a_transports_socket_is_refused(wait: Callable[[Any], Any], recorder: Any, listener: Any) -> None:
    sock = socket.create_connection(listener.getsockname())
    peer, _ = await now().sock_accept(listener)
    transport, protocol = await now().create_connection(recorder, sock=sock)
    number = sock.fileno()
    with peer, pytest.raises(RuntimeError, match=f"^File descriptor {number} is used by transport "):
        await wait(sock)
    transport.abort()
    await protocol.lost


@ours
async def test_two_objects_for_one_descriptor(pair: Pair) -> None:
    """They share a registration; else each would take it from the other, for ever."""
    sock, peer = pair
    again = socket.socket(fileno=sock.fileno())
    first = await waiting(now().sock_recv(sock, 1))
    (watch,) = [channel for channel in now()._channels() if channel.fd == sock.fileno()]  # type: ignore[attr-defined]
    second = await waiting(now().sock_recv(again, 1))
    assert watch in now()._channels()  # type: ignore[attr-defined]
    peer.send(b"12")
    assert sorted([await first, await second]) == [b"1", b"2"]
    again.detach()


def pipe_at(number: int, end: str) -> tuple[int, int]:
    """A pipe, one end of which has that number, which is free."""
    ends = dict(zip(("reader", "writer"), os.pipe(), strict=True))
    other = "writer" if end == "reader" else "reader"
    if ends[other] == number:
        ends[other] = os.dup(number)
        os.dup2(ends[end], number)
        os.close(ends[end])
    elif ends[end] != number:
        os.dup2(ends[end], number)
        os.close(ends[end])
    ends[end] = number
    return ends["reader"], ends["writer"]


@ours
@pytest.mark.parametrize("kind", ["writer", "reader"])
async def test_a_dup_of_the_socket_that_had_the_number(kind: str, pair: Pair) -> None:
    """The kernel goes on reporting it under a number that is somebody else's by now."""
    sock, peer = pair
    task = await waiting(now().sock_recv(sock, 1))
    peer.send(b"1")
    await task
    number = sock.fileno()
    dup = sock.dup()
    sock.close()
    reader, writer = pipe_at(number, kind)
    if kind == "reader":
        with open(reader, "rb", 0), open(writer, "wb", 0):
            called: list[int] = []
            now().add_reader(number, called.append, 1)
            peer.send(b"for nobody")
            await turns()
            assert called == []
            now().remove_reader(number)
    else:
        with open(reader, "rb", 0) as end:
            pipe = open(writer, "wb", 0)  # noqa: SIM115
            transport, _ = await now().connect_write_pipe(asyncio.BaseProtocol, pipe)
            peer.close()
            await turns()
            assert not transport.is_closing()
            transport.write(b"alive")
            await turns()
            assert end.read(10) == b"alive"
            transport.close()
            await turns()
    dup.close()
