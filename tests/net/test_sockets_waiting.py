"""The waits of the coroutines on sockets: cancelled, several at once, beside other users of the same descriptor."""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

import pytest
from raw import READS, Pair, Read, at_number, at_once, fill, now, turns, until_readable, waiting

ASYNCIO_TOO = True
ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])
pytestmark = pytest.mark.usefixtures("no_descriptor_left")
reads = pytest.mark.parametrize("read", READS)


async def drain(sock: socket.socket, size: int) -> bytes:
    """Read exactly that many bytes."""
    data = bytearray()
    while len(data) < size:
        data += await now().sock_recv(sock, min(size - len(data), 1 << 20))
    return bytes(data)


# Cancelled


@reads
async def test_a_cancelled_receiver_takes_nothing_that_comes_later(read: Read, pair: Pair) -> None:
    sock, peer = pair
    task = await waiting(read(sock))
    task.cancel()
    await turns()
    assert task.cancelled()
    peer.send(b"later")
    until_readable(sock)
    await turns()
    assert at_once(read(sock)) == b"later"


@reads
async def test_a_cancelled_receiver_takes_nothing_that_came_before(read: Read, pair: Pair) -> None:
    sock, peer = pair
    task = await waiting(read(sock))
    peer.send(b"before")
    until_readable(sock)
    task.cancel()
    await turns()
    assert task.cancelled()
    assert at_once(read(sock)) == b"before"


@ours  # asyncio has received on behalf of the task by then, and drops it
@reads
async def test_a_receiver_cancelled_after_it_was_woken_takes_nothing(read: Read, pair: Pair) -> None:
    sock, peer = pair
    task = await waiting(read(sock))
    peer.send(b"before")
    until_readable(sock)
    now().call_soon(task.cancel)  # in the iteration that hears of the data, and before the task's turn
    await turns()
    assert task.cancelled()
    assert at_once(read(sock)) == b"before"


async def test_a_cancelled_accept_takes_no_connection(listener: socket.socket) -> None:
    task = await waiting(now().sock_accept(listener))
    with socket.create_connection(listener.getsockname()) as client:
        until_readable(listener)
        task.cancel()
        await turns()
        assert task.cancelled()
        connection, address = at_once(now().sock_accept(listener))
        connection.close()
        assert address == client.getsockname()


@ours  # of asyncio the connection is lost, and its descriptor
async def test_an_accept_cancelled_after_it_was_woken_takes_no_connection(listener: socket.socket) -> None:
    task = await waiting(now().sock_accept(listener))
    with socket.create_connection(listener.getsockname()) as client:
        until_readable(listener)
        now().call_soon(task.cancel)
        await turns()
        assert task.cancelled()
        connection, address = at_once(now().sock_accept(listener))
        connection.close()
        assert address == client.getsockname()


async def test_a_cancelled_sender_sends_no_more(pair: Pair) -> None:
    sock, peer = pair
    task = await waiting(now().sock_sendall(sock, bytes(10_000_000)))
    task.cancel()
    await turns()
    assert task.cancelled()
    size = len(await now().sock_recv(peer, 1 << 24))
    while not await empty(peer):
        size += len(await now().sock_recv(peer, 1 << 24))
    assert 0 < size < 10_000_000
    await now().sock_sendall(sock, b"next")
    assert await now().sock_recv(peer, 100) == b"next"


async def empty(sock: socket.socket) -> bool:
    """Whether nothing more comes, after all that was under way."""
    await turns()
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True


async def test_a_cancelled_connect(silent: tuple[str, int], tcp: socket.socket, listener: socket.socket) -> None:
    task = await waiting(now().sock_connect(tcp, silent))
    task.cancel()
    await turns()
    assert task.cancelled()
    number = tcp.fileno()
    tcp.close()
    with at_number(number, socket.socket()) as again:
        await now().sock_connect(again, listener.getsockname())
        assert again.getpeername() == listener.getsockname()


@reads
async def test_another_receiver_right_after_a_cancelled_one(read: Read, pair: Pair) -> None:
    sock, peer = pair
    first = await waiting(read(sock))
    first.cancel()
    second = asyncio.ensure_future(read(sock))
    await turns()
    assert first.cancelled()
    peer.send(b"for the second")
    assert await second == b"for the second"


async def test_many_cancelled_waits_leave_nothing_behind(pair: Pair) -> None:
    sock, peer = pair
    fill(sock)
    for _ in range(200):
        for coroutine in (now().sock_recv(sock, 1), now().sock_sendall(sock, b"x")):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(coroutine, 0)
    peer.send(b"data")
    assert await now().sock_recv(sock, 100) == b"data"


# The number is used again


@pytest.mark.parametrize("ran", [True, False], ids=["ran", "not yet"])
@reads
async def test_a_cancelled_receiver_leaves_the_number_alone(read: Read, ran: bool, pair: Pair) -> None:
    sock, _ = pair
    task = await waiting(read(sock))
    task.cancel()
    if ran:
        await turns()
    number = sock.fileno()
    sock.close()
    one, other = socket.socketpair()
    with other, at_number(number, one) as one:
        other.send(b"another connection's")
        await turns()
        assert task.cancelled()
        assert at_once(read(one)) == b"another connection's"
        task = await waiting(read(one))
        other.send(b"more")
        assert await task == b"more"


@ours  # asyncio's selector does not notice, and refuses the number
@reads
async def test_a_socket_that_is_closed_under_a_receiver(read: Read, pair: Pair) -> None:
    sock, _ = pair
    old = await waiting(read(sock))
    number = sock.fileno()
    sock.close()
    one, other = socket.socketpair()
    with other, at_number(number, one) as one:
        new = await waiting(read(one))
        other.send(b"for the new one")
        assert await new == b"for the new one"
        other.send(b"again")
        await turns()
        assert at_once(read(one)) == b"again"
        if old.done():
            assert old.exception().errno == errno.EBADF
        else:
            old.cancel()
            await turns()
        new = await waiting(read(one))  # that the old one has ended means nothing to it
        other.send(b"and again")
        assert await new == b"and again"


async def test_a_duplicate_outlives_the_socket(pair: Pair) -> None:
    """The kernel goes on reporting the description under the closed number."""
    sock, peer = pair
    task = await waiting(now().sock_recv(sock, 100))
    peer.send(b"once")
    await task
    number = sock.fileno()
    with sock.dup() as copy:
        sock.close()
        peer.send(b"for the duplicate")
        until_readable(copy)
        await turns()
        one, other = socket.socketpair()
        with other, at_number(number, one) as one:
            task = await waiting(now().sock_recv(one, 100))
            peer.send(b" again")
            until_readable(copy)
            await turns()
            assert not task.done()
            other.send(b"for the new one")
            assert await task == b"for the new one"
        assert at_once(now().sock_recv(copy, 100)) == b"for the duplicate again"
        task = await waiting(now().sock_recv(copy, 100))
        peer.send(b"and again")
        assert await task == b"and again"


@ours  # asyncio waits for ever
async def test_a_socket_closed_under_a_receiver_and_a_duplicate_that_is_left(pair: Pair) -> None:
    sock, peer = pair
    task = await waiting(now().sock_recv(sock, 100))
    with sock.dup() as copy:
        sock.close()
        peer.send(b"for the duplicate")
        with pytest.raises(OSError) as caught:
            await task
        assert caught.value.errno == errno.EBADF
        assert await now().sock_recv(copy, 100) == b"for the duplicate"


async def test_thousands_of_connections_on_the_same_few_numbers(listener: socket.socket) -> None:
    """Each gets its own answer, also between waits that are cancelled and sockets that are closed under them."""
    loop = now()

    async def serve(connection: socket.socket) -> None:
        with connection:
            data = await loop.sock_recv(connection, 100)
            await loop.sock_sendall(connection, data[::-1])
            assert await loop.sock_recv(connection, 100) == b""

    async def accept(count: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                connection, _ = await loop.sock_accept(listener)
                group.create_task(serve(connection))

    async def connect(name: int, count: int) -> None:
        for i in range(count):
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, listener.getsockname())
                if i % 3 == 0:
                    early = asyncio.ensure_future(loop.sock_recv(sock, 100))
                    await asyncio.sleep(0)
                    early.cancel()
                question = b"%d of client %d" % (i, name)
                await loop.sock_sendall(sock, question)
                assert await loop.sock_recv(sock, 100) == question[::-1]

    async with asyncio.TaskGroup() as group:
        group.create_task(accept(10 * 200))
        for name in range(10):
            group.create_task(connect(name, 200))


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
    sent = fill(sock)
    task = await waiting(now().sock_sendall(sock, b"last"))
    peer.send(b"data")
    assert await received.get() == b"data"
    assert (await drain(peer, sent + 4))[sent:] == b"last"
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


WAITS: list[Callable[[Any], Any]] = [
    *READS,
    lambda sock: now().sock_sendall(sock, b"x"),
    lambda sock: now().sock_sendto(sock, b"x", ("127.0.0.1", 9)),
]


@pytest.mark.parametrize("wait", WAITS, ids=["recv", "recv_into", "recvfrom", "recvfrom_into", "sendall", "sendto"])
async def test_a_transports_socket_is_refused(wait: Callable[[Any], Any], recorder: Any, listener: Any) -> None:
    sock = socket.create_connection(listener.getsockname())
    peer, _ = await now().sock_accept(listener)
    transport, protocol = await now().create_connection(recorder, sock=sock)
    fill(sock)
    number = sock.fileno()
    with peer, pytest.raises(RuntimeError, match=f"^File descriptor {number} is used by transport "):
        await wait(sock)
    transport.abort()
    await protocol.lost


# Loops that stop, are interrupted or closed meanwhile


@pytest.fixture
def without_logs(either_loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
    """A loop that says nothing of tasks that are never finished."""
    either_loop.set_exception_handler(lambda loop, context: None)
    return either_loop


def test_a_wait_survives_a_stop_of_the_loop(either_loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
    sock, peer = pair
    task = either_loop.create_task(either_loop.sock_recv(sock, 100))
    either_loop.run_until_complete(turns())
    peer.send(b"in between")
    assert either_loop.run_until_complete(task) == b"in between"


def test_a_wait_survives_an_interrupt(either_loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    sock, peer = pair
    task = either_loop.create_task(either_loop.sock_recv(sock, 100))
    either_loop.run_until_complete(turns())
    peer.send(b"data")
    until_readable(sock)
    either_loop.call_soon(interrupt)
    with pytest.raises(KeyboardInterrupt):
        either_loop.run_forever()
    assert either_loop.run_until_complete(task) == b"data"


def test_a_loop_closed_with_operations_in_flight(
    without_logs: asyncio.AbstractEventLoop, pair: Pair, listener: socket.socket, silent: Any
) -> None:
    loop = without_logs
    sock, peer = pair
    connecting = socket.socket()
    connecting.setblocking(False)
    sent = fill(sock)
    tasks = [
        loop.create_task(coroutine)
        for coroutine in (
            loop.sock_recv(sock, 1),
            loop.sock_sendall(sock, b"x"),
            loop.sock_accept(listener),
            loop.sock_connect(connecting, silent),
        )
    ]
    loop.run_until_complete(turns())
    loop.close()
    del tasks
    with connecting, asyncio.Runner(loop_factory=type(loop)) as runner:  # the sockets are none the worse for it
        runner.get_loop().run_until_complete(drain(peer, sent))
        peer.send(b"data")
        assert runner.get_loop().run_until_complete(runner.get_loop().sock_recv(sock, 100)) == b"data"


def test_waiting_is_refused_once_the_loop_is_closed(either_loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
    either_loop.close()
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        either_loop.sock_recv(pair[0], 1).send(None)
