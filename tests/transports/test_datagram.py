"""What DatagramTransport sends and receives: whole datagrams, each with its address, and what goes wrong with them."""

import asyncio
import contextlib
import contextvars
import errno
import gc
import logging
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wire

import epoll_loop

ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])
KINDS = ["IPv4", "IPv6", "Unix", "abstract"]


class Recorder(wire.Calls, asyncio.DatagramProtocol):
    """Keeps datagrams, their senders and errors."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert type(data) is bytes
        self.found.append((data, addr))
        self.note("datagram_received")

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)
        self.note("error_received")

    @property
    def datagrams(self) -> list[bytes]:
        return [data for data, _ in self.found]

    async def until_datagrams(self, count: int) -> list[bytes]:
        await self.until(lambda: len(self.found) >= count)
        return self.datagrams


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose name is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="d") as name:
        yield Path(name)


@pytest.fixture(params=KINDS)
def new(request: pytest.FixtureRequest, folder: Path) -> Callable[[], socket.socket]:
    """Makes bound datagram sockets, all of one kind."""
    return lambda: bound(request.param, folder)


def bound(kind: str, folder: Path) -> socket.socket:
    family = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}.get(kind, socket.AF_UNIX)
    number = len(os.listdir(folder))
    address: Any = {
        "IPv4": ("127.0.0.1", 0),
        "IPv6": ("::1", 0),
        "Unix": str(folder / f"socket{number}"),
        "abstract": b"",  # the kernel chooses a name
    }[kind]
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.settimeout(wire.LIMIT)
    sock.bind(address)
    return sock


@contextlib.asynccontextmanager
async def endpoint(sock: socket.socket, protocol: Recorder) -> AsyncIterator[Any]:
    """A transport on a socket."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: protocol, sock=sock)
    try:
        yield transport
    finally:
        await wire.finish(transport)
        sock.close()


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two Unix datagram sockets, connected with each other."""
    first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    second.settimeout(wire.LIMIT)
    with first, second:
        yield first, second


def receive_all(sock: socket.socket) -> list[bytes]:
    """What is in the kernel for a socket."""
    found = []
    sock.settimeout(0)
    try:
        while True:
            found.append(sock.recv(300_000))
    except BlockingIOError:
        return found
    finally:
        sock.settimeout(wire.LIMIT)


# Receiving and sending


async def test_datagrams_come_whole_and_with_their_sender(new: Callable[[], socket.socket]) -> None:
    protocol = Recorder()
    async with endpoint(new(), protocol) as transport:
        name = transport.get_extra_info("sockname")
        with new() as first, new() as second:
            sent = [(first, b"one"), (second, b"two"), (first, bytes(range(256)) * 20), (second, b"three")] * 4
            for sock, data in sent:
                sock.sendto(data, name)
                await asyncio.sleep(0)
            await protocol.until_datagrams(len(sent))
            assert protocol.found == [(data, sock.getsockname()) for sock, data in sent]


async def test_answers_go_to_the_sender(new: Callable[[], socket.socket]) -> None:
    protocol = Recorder()
    protocol.hooks["datagram_received"] = lambda: protocol.transport.sendto(*protocol.found[-1])
    async with endpoint(new(), protocol) as transport:
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(new()) for _ in range(8)]
            for i in range(4):
                for n, peer in enumerate(peers):
                    peer.sendto(b"%d of %d" % (i, n), transport.get_extra_info("sockname"))
                await protocol.until_datagrams((i + 1) * len(peers))
            await wire.turns()
            for n, peer in enumerate(peers):
                assert receive_all(peer) == [b"%d of %d" % (i, n) for i in range(4)]


async def test_an_address_written_anew_each_time(new: Callable[[], socket.socket]) -> None:
    async with endpoint(new(), Recorder()) as transport:
        with new() as peer:
            for i in range(3):
                address = peer.getsockname()
                transport.sendto(b"%d" % i, address)
                if isinstance(address, tuple):
                    transport.sendto(b"%d short" % i, address[:2])
            await wire.turns()
            expected = [b"%d" % i for i in range(3)]
            assert [data for data in receive_all(peer) if b"short" not in data] == expected


async def test_connected(new: Callable[[], socket.socket]) -> None:
    protocol = Recorder()
    sock = new()
    with new() as peer:
        sock.connect(peer.getsockname())
        async with endpoint(sock, protocol) as transport:
            assert transport.get_extra_info("peername") == peer.getsockname()
            transport.sendto(b"with no address")
            transport.sendto(b"with one", peer.getsockname())
            await wire.turns()
            assert receive_all(peer) == [b"with no address", b"with one"]
            peer.sendto(b"answer", transport.get_extra_info("sockname"))
            await protocol.until_datagrams(1)
            assert protocol.found == [(b"answer", peer.getsockname())]


async def test_a_sender_without_a_name(folder: Path) -> None:
    protocol = Recorder()
    async with endpoint(bound("Unix", folder), protocol) as transport:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            peer.sendto(b"anonymous", transport.get_extra_info("sockname"))
            await protocol.until_datagrams(1)
            assert protocol.found == [(b"anonymous", None)]


@ours  # asyncio takes an empty peer name for none
async def test_a_peer_without_a_name() -> None:
    protocol = Recorder()
    with pair() as (sock, peer):
        async with endpoint(sock, protocol) as transport:
            transport.sendto(b"to whoever it is")
            await wire.turns()
            assert receive_all(peer) == [b"to whoever it is"]
            peer.send(b"answer")
            await protocol.until_datagrams(1)
            assert protocol.found == [(b"answer", None)]


async def test_an_empty_datagram_is_no_end(new: Callable[[], socket.socket]) -> None:
    protocol = Recorder()
    async with endpoint(new(), protocol) as transport:
        with new() as peer:
            for data in (b"", b"one", b"", b""):
                peer.sendto(data, transport.get_extra_info("sockname"))
            assert await protocol.until_datagrams(4) == [b"", b"one", b"", b""]
            await wire.turns()
            assert not transport.is_closing()


async def test_empty_datagrams_are_sent(new: Callable[[], socket.socket]) -> None:
    if type(asyncio.get_running_loop()).__module__.startswith("asyncio") and sys.version_info < (3, 13):
        pytest.skip("asyncio of this Python drops them")
    async with endpoint(new(), Recorder()) as transport:
        with new() as peer:
            for data in (b"", b"one", b""):
                transport.sendto(data, peer.getsockname())
            await wire.turns()
            assert receive_all(peer) == [b"", b"one", b""]


async def test_all_of_many_arrive_in_order(new: Callable[[], socket.socket]) -> None:
    """Many more than one system call sends or receives."""
    protocol, other = Recorder(), Recorder()
    async with endpoint(new(), protocol) as transport, endpoint(new(), other) as sender:
        expected = [b"%d" % i * (i % 7) for i in range(500)]
        sender.set_write_buffer_limits(high=1 << 20)
        for i, data in enumerate(expected):
            sender.sendto(data or b"-", transport.get_extra_info("sockname"))
            if i % 200 == 199:
                await protocol.until_datagrams(i)
        assert await protocol.until_datagrams(500) == [data or b"-" for data in expected]


@pytest.mark.parametrize("size", [60_000, 5000, 1])
async def test_sizes(new: Callable[[], socket.socket], size: int) -> None:
    protocol = Recorder()
    protocol.hooks["datagram_received"] = lambda: protocol.transport.sendto(*protocol.found[-1])
    async with endpoint(new(), protocol) as transport:
        with new() as peer:
            data = wire.pattern(size)
            peer.sendto(data, transport.get_extra_info("sockname"))
            assert await asyncio.to_thread(peer.recv, 100_000) == data


@ours
async def test_datagrams_leave_together_at_the_end_of_the_iteration(new: Callable[[], socket.socket]) -> None:
    async with endpoint(new(), Recorder()) as transport:
        with new() as peer:
            await wire.turns()
            for i in range(5):
                transport.sendto(b"%d" % i, peer.getsockname())
            assert wire.silent(peer)
            assert transport.get_write_buffer_size() == 5 * 9
            await asyncio.sleep(0)
            assert transport.get_write_buffer_size() == 0
            assert receive_all(peer) == [b"0", b"1", b"2", b"3", b"4"]


@ours
@pytest.mark.parametrize(("count", "size"), [(64, 10), (4, 20_000)])
async def test_many_or_much_leave_at_once(count: int, size: int, folder: Path) -> None:
    async with endpoint(bound("IPv4", folder), Recorder()) as transport:
        with bound("IPv4", folder) as peer:
            for _ in range(count - 1):
                transport.sendto(bytes(size), peer.getsockname())
            assert wire.silent(peer)
            transport.sendto(bytes(size), peer.getsockname())
            assert transport.get_write_buffer_size() == 0
            assert receive_all(peer) == [bytes(size)] * count


async def test_a_mutable_buffer_may_change_afterwards(new: Callable[[], socket.socket]) -> None:
    async with endpoint(new(), Recorder()) as transport:
        with new() as peer:
            buffer = bytearray(b"before")
            transport.sendto(buffer, peer.getsockname())
            transport.sendto(memoryview(buffer)[1:3], peer.getsockname())
            buffer[:] = b"after!"
            buffer.clear()
            await wire.turns()
            assert receive_all(peer) == [b"before", b"ef"]


async def test_what_is_longer_than_the_buffer_is_cut() -> None:
    protocol = Recorder()
    with pair() as (sock, peer):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 400_000)
        async with endpoint(sock, protocol):
            peer.send(bytes(300_000))
            await protocol.until_datagrams(1)
            peer.send(b"next")
            assert await protocol.until_datagrams(2) == [bytes(262_144), b"next"]


# Arguments


@pytest.mark.parametrize("data", ["text", None, 5, [b"x"]])
async def test_data_has_to_be_bytes(data: Any, folder: Path) -> None:
    async with endpoint(bound("IPv4", folder), Recorder()) as transport:
        with pytest.raises(TypeError, match="data argument must be a bytes-like object, not"):
            transport.sendto(data, ("127.0.0.1", 9))


async def test_only_to_the_remote_address(folder: Path) -> None:
    with bound("IPv4", folder) as peer, bound("IPv4", folder) as other:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            Recorder, remote_addr=peer.getsockname()
        )
        with pytest.raises(ValueError, match=r"^Invalid address: must be None or \('127.0.0.1', \d+\)$"):
            transport.sendto(b"x", other.getsockname())
        transport.sendto(b"y", peer.getsockname())
        transport.sendto(b"z")
        await wire.turns()
        assert receive_all(peer) == [b"y", b"z"]
        await wire.finish(transport)


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("IPv4", None),
        ("IPv4", "127.0.0.1"),
        ("IPv4", ("127.0.0.1",)),
        ("IPv4", ("127.0.0.1", 9, 0)),
        ("IPv4", ("127.0.0.1", "9")),
        ("IPv4", ("127.0.0.1", 1.0)),
        ("IPv4", ("127.0.0.1", 65536)),
        ("IPv4", ("127.0.0.1", -1)),
        ("IPv4", (1, 9)),
        ("IPv4", ["127.0.0.1", 9]),
        ("IPv4", ("127.0.0.1", 9, [])),
        ("IPv6", ("::1",)),
        ("IPv6", ("::1", 9, 1 << 20)),
        ("IPv6", ("::1", 9, 0, 0, 0)),
        ("IPv6", ("::1", 9, -1)),
        ("Unix", ("127.0.0.1", 9)),
        ("Unix", 5),
    ],
)
async def test_an_address_that_is_none(kind: str, address: Any, folder: Path, reports: list[dict[str, Any]]) -> None:
    """The socket module's exception, which is fatal."""
    protocol = Recorder()
    async with endpoint(bound(kind, folder), protocol) as transport:
        with bound(kind, folder) as standard, pytest.raises((TypeError, OverflowError)) as expected:
            standard.sendto(b"", address)
        transport.sendto(b"x", address)
        assert transport.is_closing()  # at once, not later
        found = await protocol.until_lost()
        assert (type(found), str(found)) == (expected.type, str(expected.value))
        assert [report["message"] for report in reports] == ["Fatal write error on datagram transport"]
        assert reports[0]["exception"] is found
        assert protocol.errors == []


async def test_the_name_of_a_host(folder: Path) -> None:
    """It is looked up on the spot, and keeps its place among the others."""
    async with endpoint(bound("IPv4", folder), Recorder()) as transport:
        with bound("IPv4", folder) as peer:
            host, port = peer.getsockname()
            for i, name in enumerate([host, "localhost", host, b"localhost", bytearray(b"127.0.0.1"), host]):
                transport.sendto(b"%d" % i, (name, port))
            await wire.turns()
            assert receive_all(peer) == [b"0", b"1", b"2", b"3", b"4", b"5"]


async def test_a_host_that_there_is_not(folder: Path) -> None:
    protocol = Recorder()
    async with endpoint(bound("IPv4", folder), protocol) as transport:
        with bound("IPv4", folder) as peer:
            transport.sendto(b"before", peer.getsockname())
            transport.sendto(b"lost", ("127.0.0.1.invalid", 9))
            assert [type(exc) for exc in protocol.errors] == [socket.gaierror]
            transport.sendto(b"after", peer.getsockname())
            await wire.turns()
            assert receive_all(peer) == [b"before", b"after"]


async def test_the_address_of_another_family(folder: Path) -> None:
    """A socket knows what an address is in its own family, whatever others have made of the same object."""
    protocol = Recorder()
    async with endpoint(bound("IPv4", folder), Recorder()) as four, endpoint(bound("IPv6", folder), protocol) as six:
        with bound("IPv4", folder) as peer:
            address = peer.getsockname()
            four.sendto(b"x", address)
            await wire.turns()
            assert receive_all(peer) == [b"x"]
            six.sendto(b"y", address)
            assert [type(exc) for exc in protocol.errors] == [socket.gaierror]
            four.sendto(b"z", address)
            await wire.turns()
            assert receive_all(peer) == [b"z"]


async def test_scopes_of_ipv6(folder: Path) -> None:
    """Link-local addresses do not say on which interface."""
    protocol = Recorder()
    async with endpoint(bound("IPv6", folder), protocol) as transport:
        with bound("IPv6", folder) as peer:
            port = peer.getsockname()[1]
            for address in [("::1", port), ("::1", port, 5), ("::1", port, 0, 1), ("::1", port, 0, 0)]:
                transport.sendto(repr(address).encode(), address)
                transport.sendto(b"to nobody", ("fe80::1", port, 0, 1 << 31))
            await protocol.until(lambda: len(protocol.errors) == 4)
            assert len([data for data in receive_all(peer) if b"::1" in data]) == 4


# Errors


def unused(folder: Path) -> Any:
    """An address where nobody is."""
    with bound("IPv4", folder) as sock:
        return sock.getsockname()


async def test_refused(folder: Path) -> None:
    protocol = Recorder()
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: protocol, remote_addr=unused(folder)
    )
    for i in range(3):
        transport.sendto(b"to nobody")
        await protocol.until(lambda: len(protocol.errors) == i + 1)  # noqa: B023
    assert {type(exc) for exc in protocol.errors} == {ConnectionRefusedError}
    assert not transport.is_closing()
    await wire.finish(transport)
    assert protocol.lost is None


async def test_refused_and_then_not(folder: Path) -> None:
    """An error does not take away what comes after it."""
    protocol = Recorder()
    peer = bound("IPv4", folder)
    name = peer.getsockname()
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: protocol, remote_addr=name)
    peer.close()
    transport.sendto(b"to nobody")
    await protocol.until(lambda: protocol.errors)
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.bind(name)
        peer.sendto(b"here I am", transport.get_extra_info("sockname"))
        await protocol.until_datagrams(1)
        transport.sendto(b"welcome")
        await wire.turns()
        assert receive_all(peer) == [b"welcome"]
    await wire.finish(transport)


async def test_one_that_is_too_long(new: Callable[[], socket.socket]) -> None:
    """The error is for that one, the others are sent."""
    protocol = Recorder()
    async with endpoint(new(), protocol) as transport:
        with new() as peer:
            name = peer.getsockname()
            for data in (b"one", bytes(300_000), b"two", b"three", bytes(300_000)):
                transport.sendto(data, name)
            await wire.turns()
            assert receive_all(peer) == [b"one", b"two", b"three"]
            assert [exc.errno for exc in protocol.errors] == [errno.EMSGSIZE] * 2
            assert transport.get_write_buffer_size() == 0
            transport.sendto(b"four", name)
            await wire.turns()
            assert receive_all(peer) == [b"four"]


async def test_nobody_there(folder: Path) -> None:
    protocol = Recorder()
    async with endpoint(bound("Unix", folder), protocol) as transport:
        transport.sendto(b"x", str(folder / "nobody"))
        transport.sendto(b"x", b"\0nobody of that name")
        await protocol.until(lambda: len(protocol.errors) == 2)
        assert [type(exc) for exc in protocol.errors] == [FileNotFoundError, ConnectionRefusedError]


async def test_error_received_may_close(folder: Path) -> None:
    for method in ("close", "abort"):
        protocol = Recorder()
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: protocol,  # noqa: B023
            remote_addr=unused(folder),
        )
        protocol.hooks["error_received"] = getattr(transport, method)
        transport.sendto(b"to nobody")
        assert await protocol.until_lost() is None
        assert protocol.calls == ["connection_made", "error_received", "connection_lost"]


async def test_error_received_may_send(folder: Path) -> None:
    protocol = Recorder()
    async with endpoint(bound("IPv4", folder), protocol) as transport:
        with bound("IPv4", folder) as peer:
            name = peer.getsockname()
            protocol.hooks["error_received"] = lambda: transport.sendto(b"instead", name)
            for data in (bytes(300_000), b"one", bytes(300_000), b"two"):
                transport.sendto(data, name)
            await wire.turns()
            assert sorted(receive_all(peer)) == [b"instead", b"instead", b"one", b"two"]
            assert transport.get_write_buffer_size() == 0


@ours  # asyncio's sendto() raises what its error_received() raises
async def test_error_received_that_fails(folder: Path, reports: list[dict[str, Any]]) -> None:
    def fail() -> None:
        raise LookupError("in error_received")

    protocol = Recorder()
    protocol.hooks["error_received"] = fail
    async with endpoint(bound("IPv4", folder), protocol) as transport:
        with bound("IPv4", folder) as peer:
            transport.sendto(bytes(300_000), peer.getsockname())
            transport.sendto(b"next", peer.getsockname())
            await wire.turns()
            assert receive_all(peer) == [b"next"]
            assert [report["message"] for report in reports] == ["Exception in protocol.error_received()"]
            assert not transport.is_closing()


# In the middle of a batch


async def batch(protocol: Recorder, transport: Any, peer: socket.socket, count: int = 10) -> None:
    """Have datagrams wait in the kernel, to be received together."""
    await wire.turns()
    for i in range(count):
        peer.sendto(b"%d" % i, transport.get_extra_info("sockname"))


@pytest.mark.parametrize("method", ["close", "abort"])
async def test_closed_in_datagram_received(new: Callable[[], socket.socket], method: str) -> None:
    protocol = Recorder()
    protocol.hooks["datagram_received"] = lambda: len(protocol.found) == 3 and getattr(protocol.transport, method)()
    async with endpoint(new(), protocol) as transport:
        with new() as peer:
            await batch(protocol, transport, peer)
            assert await protocol.until_lost() is None
            await wire.turns()
            assert protocol.datagrams == [b"0", b"1", b"2"]
            assert protocol.calls == ["connection_made", *["datagram_received"] * 3, "connection_lost"]


async def test_datagram_received_that_fails(new: Callable[[], socket.socket], reports: list[dict[str, Any]]) -> None:
    """Reported, and the transport lives on, with all of the datagrams that came."""

    def fail() -> None:
        if len(protocol.found) in (3, 7, 10):
            raise LookupError("in datagram_received")

    protocol = Recorder()
    protocol.hooks["datagram_received"] = fail
    async with endpoint(new(), protocol) as transport:
        with new() as peer:
            await batch(protocol, transport, peer)
            assert await protocol.until_datagrams(10) == [b"%d" % i for i in range(10)]
            await wire.turns()
            assert [type(report["exception"]) for report in reports] == [LookupError] * 3
            assert not transport.is_closing()


async def test_another_protocol_gets_the_rest(new: Callable[[], socket.socket]) -> None:
    protocol, other = Recorder(), Recorder()

    def change() -> None:
        if len(protocol.found) == 4:
            protocol.transport.set_protocol(other)

    protocol.hooks["datagram_received"] = change
    async with endpoint(new(), protocol) as transport:
        with new() as peer:
            await batch(protocol, transport, peer)
            assert await other.until_datagrams(6) == [b"%d" % i for i in range(4, 10)]
            assert protocol.datagrams == [b"0", b"1", b"2", b"3"]
            assert transport.get_protocol() is other


@pytest.mark.parametrize("blocked", [False, True])
def test_an_interrupt_in_datagram_received(either_loop: asyncio.AbstractEventLoop, folder: Path, blocked: bool) -> None:
    """What was received with the one in whose callback KeyboardInterrupt came is not lost."""

    def interrupt() -> None:
        if len(protocol.found) == 3:
            raise KeyboardInterrupt

    async def begin() -> tuple[Any, Recorder]:
        return await either_loop.create_datagram_endpoint(Recorder, sock=sock)

    async def rest() -> None:
        await protocol.until_datagrams(9)
        await wire.finish(transport)

    with bound("Unix", folder) as sock, bound("Unix", folder) as peer:
        sock.connect(peer.getsockname())
        sock.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while blocked:  # then there is no other event
                sock.send(b"x")
        transport, protocol = either_loop.run_until_complete(begin())
        protocol.hooks["datagram_received"] = interrupt
        for i in range(9):
            peer.sendto(b"%d" % i, sock.getsockname())
        with pytest.raises(KeyboardInterrupt):
            either_loop.run_forever()
        either_loop.run_until_complete(rest())
        assert protocol.datagrams == [b"%d" % i for i in range(9)]


@ours
async def test_a_flood_leaves_others_their_turn(folder: Path) -> None:
    """A bounded number of datagrams an iteration."""
    log: list[str] = []
    protocol = Recorder()
    protocol.hooks["datagram_received"] = lambda: log.append("datagram")
    loop = asyncio.get_running_loop()

    def count() -> None:
        log.append("callback")
        if log.count("datagram") < 200:
            loop.call_soon(count)

    async with endpoint(bound("IPv4", folder), protocol) as transport:
        with bound("IPv4", folder) as peer:
            await batch(protocol, transport, peer, 200)
            count()
            await protocol.until_datagrams(200)
            runs = "".join(name[0] for name in log).split("c")
            assert max(len(run) for run in runs) <= 32


# Flow control and the end


async def test_water_marks() -> None:
    """What the kernel has refused counts: above `high` one pause, at `low` one resume; nothing is lost."""
    protocol = Recorder()
    with pair() as (sock, peer):
        name = name_of(sock, peer)
        async with endpoint(sock, protocol) as transport:
            transport.set_write_buffer_limits(high=5000, low=1000)
            count = 0
            while "pause_writing" not in protocol.calls:
                transport.sendto(b"%06d" % count + bytes(1000), name)
                count += 1
                await asyncio.sleep(0)
            await wire.turns()
            assert "resume_writing" not in protocol.calls
            found: list[bytes] = []
            while len(found) < count:
                found += receive_all(peer)
                await asyncio.sleep(0)
            assert [int(data[:6]) for data in found] == list(range(count))
            await protocol.until(lambda: "resume_writing" in protocol.calls)
            assert protocol.calls == ["connection_made", "pause_writing", "resume_writing"]


def name_of(sock: socket.socket, peer: socket.socket) -> Any:
    """Give the sockets of a pair names, which asyncio wants; return the peer's."""
    peer.bind(b"")
    sock.bind(b"")
    return peer.getsockname()


async def blocked(protocol: Recorder, transport: Any, name: Any = None) -> int:
    """Send until some of it is left in the queue; return how many datagrams it has been."""
    count = 0
    while not transport.get_write_buffer_size():
        transport.sendto(b"%06d" % count, name)
        count += 1
        await asyncio.sleep(0)
    return count


@pytest.fixture
async def full(folder: Path) -> AsyncIterator[tuple[Recorder, Any, socket.socket, int]]:
    """An endpoint that is connected to a Unix socket whose queue is full, and the number of datagrams sent to it."""
    protocol = Recorder()
    sock = bound("Unix", folder)
    with bound("Unix", folder) as peer:
        sock.connect(peer.getsockname())
        async with endpoint(sock, protocol) as transport:
            yield protocol, transport, peer, await blocked(protocol, transport)


@ours  # asyncio of some Pythons counts more in than out
async def test_the_size_of_the_queue(full: tuple[Recorder, Any, socket.socket, int]) -> None:
    _, transport, peer, _ = full
    assert transport.get_write_buffer_size() == 6 + 8
    transport.sendto(b"")
    transport.sendto(b"123")
    assert transport.get_write_buffer_size() == 14 + 8 + 11
    receive_all(peer)
    await wire.turns()
    assert transport.get_write_buffer_size() == 0
    assert receive_all(peer)[-2:] == [b"", b"123"]


async def test_close_sends_what_is_queued_first(full: tuple[Recorder, Any, socket.socket, int]) -> None:
    protocol, transport, peer, count = full
    for i in range(count, count + 50):
        transport.sendto(b"%06d" % i)
    transport.close()
    transport.close()
    await wire.turns()
    assert protocol.calls == ["connection_made"]
    assert transport.is_closing()
    found: list[bytes] = []
    while len(found) < count + 50:
        found += receive_all(peer)
        await asyncio.sleep(0)
    assert found == [b"%06d" % i for i in range(count + 50)]
    assert await protocol.until_lost() is None
    assert protocol.calls == ["connection_made", "connection_lost"]


@ours  # asyncio has sent it by then
async def test_close_sends_an_empty_one_first(folder: Path) -> None:
    async with endpoint(bound("IPv4", folder), Recorder()) as transport:
        with bound("IPv4", folder) as peer:
            transport.sendto(b"", peer.getsockname())
            transport.close()
            await wire.turns()
            assert receive_all(peer) == [b""]


async def test_abort_drops_what_is_queued(full: tuple[Recorder, Any, socket.socket, int]) -> None:
    protocol, transport, peer, count = full
    for _ in range(50):
        transport.sendto(b"dropped")
    transport.abort()
    transport.abort()
    assert await protocol.until_lost() is None
    assert receive_all(peer) == [b"%06d" % i for i in range(count - 1)]
    assert protocol.calls == ["connection_made", "connection_lost"]


async def test_no_datagrams_after_close(full: tuple[Recorder, Any, socket.socket, int]) -> None:
    protocol, transport, peer, _ = full
    transport.close()
    peer.sendto(b"too late", transport.get_extra_info("sockname"))
    await wire.turns()
    assert protocol.found == []


async def test_sending_after_the_end_is_warned_of(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    protocol = Recorder()
    with bound("IPv4", folder) as peer:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: protocol, remote_addr=peer.getsockname()
        )
        transport.close()
        with caplog.at_level(logging.WARNING, "asyncio"):
            for _ in range(4):
                transport.sendto(b"x")
            assert caplog.messages == []
            transport.sendto(b"x")
            assert caplog.messages == ["socket.send() raised exception."]
        await protocol.until_lost()
        assert wire.silent(peer)


@ours  # asyncio tries, and fails with an AttributeError
async def test_sending_after_the_end_without_a_remote_address(folder: Path) -> None:
    protocol = Recorder()
    with bound("IPv4", folder) as peer:
        async with endpoint(bound("IPv4", folder), protocol) as transport:
            transport.close()
            transport.sendto(b"x", peer.getsockname())
            await protocol.until_lost()
            transport.sendto(b"x", peer.getsockname())
            await wire.turns()
            assert wire.silent(peer)


async def test_what_was_just_sent_leaves_before_an_abort(folder: Path) -> None:
    async with endpoint(bound("IPv4", folder), Recorder()) as transport:
        with bound("IPv4", folder) as peer:
            transport.sendto(b"goodbye", peer.getsockname())
            transport.abort()
            await wire.turns()
            assert receive_all(peer) == [b"goodbye"]


async def test_a_full_queue_of_a_unix_socket_that_we_are_not_connected_to(folder: Path) -> None:
    """The kernel says nothing when there is room again, if it is not our datagram that was read."""
    protocol = Recorder()
    with bound("Unix", folder) as peer, bound("Unix", folder) as other:
        other.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                other.sendto(b"of another", peer.getsockname())
        async with endpoint(bound("Unix", folder), protocol) as transport:
            transport.sendto(b"ours", peer.getsockname())
            await wire.turns()
            assert transport.get_write_buffer_size()
            assert set(receive_all(peer)) == {b"of another"}
            assert await asyncio.to_thread(peer.recv, 100) == b"ours"


@ours
@pytest.mark.skipif(epoll_loop.COMPILED, reason="counts calls of the pure build")
async def test_a_full_queue_is_not_asked_again_and_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from epoll_loop.core import syscalls

    tries = 0
    real = syscalls.send_datagrams

    def counting(*args: Any) -> int:
        nonlocal tries
        tries += 1
        return real(*args)

    async with endpoint(bound("Unix", folder), Recorder()) as transport:
        with bound("Unix", folder) as peer:
            await blocked(transport.get_protocol(), transport, peer.getsockname())
            monkeypatch.setattr(syscalls, "send_datagrams", counting)
            await asyncio.sleep(0.1)
            assert 1 <= tries <= 10


# What else is promised


async def test_it_is_what_asyncio_has(folder: Path) -> None:
    async with endpoint(bound("IPv4", folder), Recorder()) as transport:
        assert isinstance(transport, asyncio.Transport)
        assert isinstance(transport, asyncio.BaseTransport)
        if sys.version_info >= (3, 12):
            assert isinstance(transport, asyncio.DatagramTransport)


async def test_extra_info(folder: Path) -> None:
    sock = bound("IPv4", folder)
    async with endpoint(sock, Recorder()) as transport:
        assert isinstance(transport.get_extra_info("socket"), asyncio.trsock.TransportSocket)
        assert transport.get_extra_info("socket").fileno() == sock.fileno()
        assert transport.get_extra_info("sockname") == sock.getsockname()
        assert transport.get_extra_info("peername") is None
        assert transport.get_extra_info("nothing", "default") == "default"
        assert transport._sock is sock


async def test_attributes_can_be_assigned(folder: Path) -> None:
    async with endpoint(bound("IPv4", folder), Recorder()) as transport:
        sent: list[Any] = []
        transport.sendto = lambda *args: sent.append(args)
        transport.sendto(b"x", 5)
        assert sent == [(b"x", 5)]
        del transport.sendto


async def test_callbacks_run_in_the_context_of_the_endpoint(folder: Path) -> None:
    where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")
    seen: list[str] = []
    protocol = Recorder()
    for name in ("datagram_received", "error_received", "connection_lost"):
        protocol.hooks[name] = lambda: seen.append(where.get())
    where.set("endpoint")
    peer = bound("IPv4", folder)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: protocol, remote_addr=peer.getsockname()
    )
    where.set("elsewhere")
    peer.sendto(b"x", transport.get_extra_info("sockname"))
    await protocol.until_datagrams(1)
    peer.close()
    transport.sendto(b"to nobody")
    await protocol.until(lambda: protocol.errors)
    transport.abort()
    await protocol.until_lost()
    assert seen[:2] == ["endpoint"] * 2


@ours
async def test_the_giver_may_close_the_socket(folder: Path) -> None:
    protocol = Recorder()
    sock = bound("IPv4", folder)
    async with endpoint(sock, protocol) as transport:
        name = sock.getsockname()
        sock.close()
        with bound("IPv4", folder) as peer:
            peer.sendto(b"still here", name)
            await protocol.until_datagrams(1)
            transport.sendto(b"so am I", peer.getsockname())
            await wire.turns()
            assert receive_all(peer) == [b"so am I"]


def test_a_transport_that_nobody_closes(either_loop: asyncio.AbstractEventLoop, folder: Path) -> None:
    async def main() -> None:
        transport, _ = await either_loop.create_datagram_endpoint(Recorder, local_addr=("127.0.0.1", 0))
        fds.append(transport.get_extra_info("socket").fileno())

    fds: list[int] = []
    either_loop.run_until_complete(main())
    with pytest.warns(ResourceWarning, match="unclosed"):  # noqa: PT031
        either_loop.close()
        gc.collect()
    with pytest.raises(OSError):
        os.fstat(fds[0])
