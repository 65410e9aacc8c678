"""The waits of the coroutines on sockets: cancelled, on a number that is used again, in a loop that stops meanwhile."""

import asyncio
import errno
import socket

import pytest
from pollers import epoll_only
from raw import LARGE, READS, Pair, Read, at_number, at_once, now, turns, until_readable, waiting

import epoll_loop

ASYNCIO_TOO = True
ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])
pytestmark = pytest.mark.usefixtures("no_descriptor_left")
reads = pytest.mark.parametrize("read", READS)


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
    task = await waiting(now().sock_sendall(sock, LARGE))
    task.cancel()
    await turns()
    assert task.cancelled()
    sending = asyncio.ensure_future(now().sock_sendall(sock, b"next"))
    sending.add_done_callback(lambda _: sock.shutdown(socket.SHUT_WR))
    received = bytearray()
    while data := await now().sock_recv(peer, 1 << 20):
        received += data
    await sending
    assert 4 < len(received) < len(LARGE)
    assert received == bytes(len(received) - 4) + b"next"


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
    for _ in range(200):
        for coroutine in (now().sock_recv(sock, 1), now().sock_sendall(sock, LARGE)):
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
@epoll_only  # and so do kernels that forget a number when it is closed
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


# Loops that stop, are interrupted or closed meanwhile


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
    loop: asyncio.AbstractEventLoop, pair: Pair, listener: socket.socket, silent: tuple[str, int]
) -> None:
    """Who waits is woken, and the sockets are none the worse for it."""
    sock, peer = pair
    with socket.socket() as connecting:
        connecting.setblocking(False)
        waits = [loop.sock_sendall(sock, LARGE), loop.sock_accept(listener), loop.sock_connect(connecting, silent)]
        for method, buffer in (("sock_recv", 1), ("sock_recv_into", bytearray(1))):
            waits.append(getattr(loop, method)(sock, buffer))
            waits.append(getattr(loop, method.replace("recv", "recvfrom"))(sock, buffer))
        tasks = [loop.create_task(coroutine) for coroutine in waits]
        loop.run_until_complete(turns())
        loop.close()
        assert all(task.cancelled() for task in tasks)

        async def go_on() -> None:
            await now().sock_sendall(peer, b"data")
            assert await now().sock_recv(sock, 100) == b"data"

        epoll_loop.run(go_on())


def test_waiting_is_refused_once_the_loop_is_closed(either_loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
    either_loop.close()
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        either_loop.sock_recv(pair[0], 1).send(None)
