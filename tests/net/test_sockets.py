"""What the coroutines on sockets do: each of them, and its errors. Their waits are in test_sockets_waiting.py."""

import array
import asyncio
import errno
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from interpreter import not_on_pypy
from raw import LARGE, LIMIT, READS, Pair, Read, at_once, now, reset, until_readable, waiting

ASYNCIO_TOO = True
ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])
pytestmark = pytest.mark.usefixtures("no_descriptor_left")
reads = pytest.mark.parametrize("read", READS)


@pytest.fixture
def udp() -> Iterator[Pair]:
    """Two UDP sockets with addresses."""
    with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as other:
        for sock in (one, other):
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
        yield one, other


# At once, and after a wait


@reads
async def test_what_is_there_is_received_at_once(read: Read, pair: Pair) -> None:
    sock, peer = pair
    peer.send(b"here")
    until_readable(sock)
    assert at_once(read(sock)) == b"here"


@reads
async def test_a_receiver_waits(read: Read, pair: Pair) -> None:
    sock, peer = pair
    task = await waiting(read(sock))
    peer.send(b"there")
    assert await task == b"there"


@reads
async def test_the_end_of_the_stream_is_nothing(read: Read, pair: Pair) -> None:
    sock, peer = pair
    task = await waiting(read(sock))
    peer.shutdown(socket.SHUT_WR)
    assert await task == b""
    assert at_once(read(sock)) == b""


async def test_a_message_in_pieces(pair: Pair) -> None:
    sock, peer = pair
    task = await waiting(now().sock_recv(sock, 3))
    peer.send(b"one two")
    peer.close()
    assert await task == b"one"
    assert [at_once(now().sock_recv(sock, 3)) for _ in range(3)] == [b" tw", b"o", b""]


async def test_what_fits_is_sent_at_once(pair: Pair) -> None:
    sock, peer = pair
    assert at_once(now().sock_sendall(sock, b"fits")) is None
    assert at_once(now().sock_sendall(sock, b"")) is None
    until_readable(peer)
    assert peer.recv(100) == b"fits"


async def test_a_sender_waits_for_a_slow_reader(pair: Pair) -> None:
    sock, peer = pair
    data = array.array("I", range(10_000_000 // 4)).tobytes()
    task = asyncio.ensure_future(now().sock_sendall(sock, data))
    received = bytearray()
    while len(received) < len(data):
        received += await now().sock_recv(peer, 100_000)
        await asyncio.sleep(0)
    assert await task is None
    assert received == data


async def test_a_connection_is_accepted_at_once(listener: socket.socket, tcp: socket.socket) -> None:
    tcp.setblocking(True)
    tcp.connect(listener.getsockname())
    until_readable(listener)
    connection, address = at_once(now().sock_accept(listener))
    with connection:
        assert connection.gettimeout() == 0
        assert not connection.get_inheritable()
        assert address == tcp.getsockname()
        assert connection.getpeername() == address


async def test_accept_waits_for_a_connection(listener: socket.socket, tcp: socket.socket) -> None:
    task = await waiting(now().sock_accept(listener))
    await now().sock_connect(tcp, listener.getsockname())
    connection, address = await task
    with connection:
        assert connection.gettimeout() == 0
        assert address == tcp.getsockname()


async def test_unix_connections_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "listener")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)
        client.setblocking(False)
        assert at_once(now().sock_connect(client, path)) is None
        connection, _ = at_once(now().sock_accept(listener))
        with connection:
            at_once(now().sock_sendall(client, b"unix"))
            assert at_once(now().sock_recv(connection, 10)) == b"unix"


async def test_connect_refused(refusing: tuple[str, int], tcp: socket.socket) -> None:
    with pytest.raises(ConnectionRefusedError) as caught:
        await now().sock_connect(tcp, refusing)
    assert caught.value.errno == errno.ECONNREFUSED


async def test_connect_to_a_name(listener: socket.socket, tcp: socket.socket) -> None:
    await now().sock_connect(tcp, ("localhost", listener.getsockname()[1]))
    assert tcp.getpeername() == listener.getsockname()


async def test_connect_of_a_connected_socket(listener: socket.socket, tcp: socket.socket) -> None:
    tcp.setblocking(True)
    tcp.connect(listener.getsockname())
    tcp.setblocking(False)
    with pytest.raises(OSError) as caught:
        await now().sock_connect(tcp, listener.getsockname())
    assert caught.value.errno == errno.EISCONN


# Datagrams


async def test_datagrams(udp: Pair) -> None:
    one, other = udp
    assert at_once(now().sock_sendto(one, b"datagram", other.getsockname())) == 8
    assert await now().sock_recvfrom(other, 100) == (b"datagram", one.getsockname())
    task = await waiting(now().sock_recvfrom(one, 100))
    at_once(now().sock_sendto(other, b"answer", one.getsockname()))
    assert await task == (b"answer", other.getsockname())


async def test_an_empty_datagram_is_no_end(udp: Pair) -> None:
    one, other = udp
    for data in (b"", b"next"):
        assert await now().sock_sendto(one, data, other.getsockname()) == len(data)
    assert await now().sock_recvfrom(other, 100) == (b"", one.getsockname())
    assert await now().sock_recvfrom(other, 100) == (b"next", one.getsockname())


async def test_a_datagram_into_a_buffer(udp: Pair) -> None:
    one, other = udp
    buffer = bytearray(b"." * 10)
    for _ in range(2):
        await now().sock_sendto(one, b"datagram", other.getsockname())
    assert await now().sock_recvfrom_into(other, buffer) == (8, one.getsockname())
    assert buffer == b"datagram.."
    assert await now().sock_recvfrom_into(other, memoryview(buffer)[5:], 3) == (3, one.getsockname())
    assert buffer == b"datagdat.."


async def test_a_datagram_that_is_too_large(udp: Pair) -> None:
    one, other = udp
    with pytest.raises(OSError) as caught:
        await now().sock_sendto(one, bytes(100_000), other.getsockname())
    assert caught.value.errno == errno.EMSGSIZE


async def test_an_unreachable_port_is_reported_to_the_receiver(udp: Pair) -> None:
    one, other = udp
    one.connect(other.getsockname())
    task = await waiting(now().sock_recv(one, 100))
    other.close()
    one.send(b"nobody there")
    with pytest.raises(ConnectionRefusedError):
        await task


class Counting(socket.socket):
    tries = 0

    def sendto(self, *args: Any) -> int:
        self.tries += 1
        return super().sendto(*args)


@pytest.mark.parametrize("connected", [True, False])
@ours  # asyncio spins until there is room
async def test_a_receiver_whose_queue_is_full(connected: bool, tmp_path: Path) -> None:
    """With what others have sent: the kernel calls our socket writable, and tells it nothing unless it is connected."""
    path = str(tmp_path / "receiver")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other,
        Counting(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(path)
        for sock in (receiver, other, sender):
            sock.setblocking(False)
        if connected:
            sender.connect(path)
        sent = 0
        with pytest.raises(BlockingIOError):
            while True:
                other.sendto(b"%d" % sent, path)
                sent += 1
        task = await waiting(now().sock_sendto(sender, b"last", path))
        await asyncio.sleep(0.03)
        assert sender.tries <= 30
        for i in range(sent):
            assert receiver.recv(100) == b"%d" % i
        assert await task == 4
        assert receiver.recv(100) == b"last"


# Arguments


OPERATIONS: dict[str, Callable[[Any], Coroutine[Any, Any, Any]]] = {
    "sock_recv": lambda sock: now().sock_recv(sock, 1),
    "sock_recv_into": lambda sock: now().sock_recv_into(sock, bytearray(1)),
    "sock_recvfrom": lambda sock: now().sock_recvfrom(sock, 1),
    "sock_recvfrom_into": lambda sock: now().sock_recvfrom_into(sock, bytearray(1)),
    "sock_sendall": lambda sock: now().sock_sendall(sock, b"x"),
    "sock_sendto": lambda sock: now().sock_sendto(sock, b"x", ("127.0.0.1", 9)),
    "sock_accept": lambda sock: now().sock_accept(sock),
    "sock_connect": lambda sock: now().sock_connect(sock, ("127.0.0.1", 9)),
}
operations = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
Operation = Callable[[Any], Coroutine[Any, Any, Any]]


@operations
async def test_a_blocking_socket_is_refused_in_debug_mode(operation: Operation, tcp: socket.socket) -> None:
    now().set_debug(True)
    for timeout in (None, 1.0):
        tcp.settimeout(timeout)
        with pytest.raises(ValueError, match=r"^the socket must be non-blocking$"):
            await operation(tcp)


@operations
async def test_a_tls_socket_is_refused(operation: Operation) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with context.wrap_socket(socket.socket(), server_hostname="name") as sock:
        sock.setblocking(False)
        with pytest.raises(TypeError, match=r"^Socket cannot be of type SSLSocket$"):
            await operation(sock)


@operations
async def test_a_closed_socket(operation: Operation, tcp: socket.socket) -> None:
    tcp.close()
    with pytest.raises(OSError) as caught:
        await operation(tcp)
    assert caught.value.errno == errno.EBADF


async def test_sizes_that_are_none(pair: Pair) -> None:
    sock, peer = pair
    peer.send(b"data")
    until_readable(sock)
    assert await now().sock_recv(sock, 0) == b""
    with pytest.raises(ValueError, match="negative"):
        await now().sock_recv(sock, -1)
    with pytest.raises(TypeError):
        await now().sock_recv(sock, "1")  # type: ignore[arg-type]
    assert await now().sock_recv(sock, 1 << 20) == b"data"


async def test_buffers_that_are_none(pair: Pair) -> None:
    sock, peer = pair
    peer.send(b"data")
    until_readable(sock)
    for buffer in (b"read-only", "text", None):
        with pytest.raises(TypeError):
            await now().sock_recv_into(sock, buffer)  # type: ignore[arg-type]
    for data in ("text", None):
        with pytest.raises(TypeError):
            await now().sock_sendall(sock, data)  # type: ignore[arg-type]
    assert await now().sock_recv(sock, 100) == b"data"


@pytest.mark.parametrize("size", [0, 4, 6])
async def test_receiving_into_larger_items(size: int, pair: Pair) -> None:
    sock, peer = pair
    items = array.array("I", [0, 0])
    peer.send(bytes(range(1, 1 + size)))
    if not size:
        peer.close()
    until_readable(sock)
    assert await now().sock_recv_into(sock, items) == size
    assert items.tobytes() == bytes(range(1, 1 + size)) + bytes(8 - size)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_sending_what_is_like_bytes(kind: Any, pair: Pair) -> None:
    sock, peer = pair
    data = kind(bytes(range(250)) * 50_000)  # more than fits
    task = await waiting(now().sock_sendall(sock, data))
    received = bytearray()
    while len(received) < len(data):
        received += await now().sock_recv(peer, 1 << 20)
    await task
    assert received == data


@ours  # asyncio takes the number of items for that of bytes
async def test_sending_larger_items(pair: Pair) -> None:
    sock, peer = pair
    for items in (array.array("I", [1, 2, 3]), array.array("I", range(1_000_000)), memoryview(bytes(600))[::2]):
        data = items.tobytes()
        if isinstance(items, memoryview):
            with pytest.raises(BufferError):  # not in one piece: socket.send() says so too
                await now().sock_sendall(sock, items)
            continue
        task = asyncio.ensure_future(now().sock_sendall(sock, items))
        received = bytearray()
        while len(received) < len(data):
            received += await now().sock_recv(peer, 1 << 20)
        await task
        assert received == data


# Errors of the kernel


class Failing(socket.socket):
    """A socket whose calls fail with what is in `errors`, one after the other; None is a success."""

    errors: list[OSError | None] = []

    def _fail(self) -> None:
        if self.errors:
            error = self.errors.pop(0)
            if error is not None:
                raise error

    def recv(self, *args: Any) -> bytes:
        self._fail()
        return super().recv(*args)

    def recv_into(self, *args: Any) -> int:
        self._fail()
        return super().recv_into(*args)

    def recvfrom(self, *args: Any) -> Any:
        self._fail()
        return super().recvfrom(*args)

    def recvfrom_into(self, *args: Any) -> Any:
        self._fail()
        return super().recvfrom_into(*args)

    def send(self, *args: Any) -> int:
        self._fail()
        return super().send(*args)

    def sendto(self, *args: Any) -> int:
        self._fail()
        return super().sendto(*args)

    def accept(self) -> Any:
        self._fail()
        return super().accept()


@pytest.fixture
def failing() -> Iterator[Failing]:
    """A socket of which data can be read and to which they can be written."""
    one, other = socket.socketpair()
    with other, Failing(fileno=one.detach()) as sock:
        other.send(b"data")
        until_readable(sock)
        sock.setblocking(False)
        yield sock


no_connect = pytest.mark.parametrize(
    "operation",
    [value for name, value in OPERATIONS.items() if name != "sock_connect"],
    ids=[name for name in OPERATIONS if name != "sock_connect"],
)


@no_connect
@pytest.mark.parametrize(
    "first", [[], [BlockingIOError()], [InterruptedError()]], ids=["at once", "after a wait", "after a signal"]
)
async def test_an_error_comes_out(operation: Operation, first: list[OSError], failing: Failing) -> None:
    error = OSError(errno.EIO, "broken")
    failing.errors = [*first, error]
    with pytest.raises(OSError) as caught:
        async with asyncio.timeout(LIMIT):
            await operation(failing)
    assert caught.value is error
    assert failing.errors == []


async def test_an_error_while_accept_waits(listener: socket.socket, tcp: socket.socket) -> None:
    error = OSError(errno.EMFILE, "too many")
    with Failing(fileno=listener.detach()) as sock:
        sock.setblocking(False)
        task = await waiting(now().sock_accept(sock))
        sock.errors = [error]
        await now().sock_connect(tcp, sock.getsockname())
        with pytest.raises(OSError) as caught:
            await task
        assert caught.value is error
        connection, _ = await now().sock_accept(sock)
        connection.close()


async def test_not_connected(tcp: socket.socket) -> None:
    with pytest.raises(OSError) as caught:
        await now().sock_recv(tcp, 1)
    assert caught.value.errno == errno.ENOTCONN
    with pytest.raises(BrokenPipeError):
        await now().sock_sendall(tcp, b"x")
    with pytest.raises(OSError) as caught:
        await now().sock_accept(tcp)
    assert caught.value.errno == errno.EINVAL


@reads
async def test_a_reset_wakes_the_receiver(read: Read, tcp: socket.socket, listener: socket.socket) -> None:
    await now().sock_connect(tcp, listener.getsockname())
    peer, _ = await now().sock_accept(listener)
    task = await waiting(read(tcp))
    reset(peer)
    with pytest.raises(ConnectionResetError):
        await task


async def test_a_reset_wakes_the_sender(tcp: socket.socket, listener: socket.socket) -> None:
    await now().sock_connect(tcp, listener.getsockname())
    peer, _ = await now().sock_accept(listener)
    task = await waiting(now().sock_sendall(tcp, LARGE))
    reset(peer)
    with pytest.raises(ConnectionResetError):
        await task


async def test_a_peer_that_is_gone_wakes_the_sender(pair: Pair) -> None:
    sock, peer = pair
    task = await waiting(now().sock_sendall(sock, LARGE))
    peer.close()
    with pytest.raises(ConnectionError):
        await task


@not_on_pypy("recv(0) asks the kernel, which has nothing to say yet")
async def test_no_bytes_are_there_at_once(pair: Pair) -> None:
    assert at_once(now().sock_recv(pair[0], 0)) == b""
