"""What DatagramTransport sends and receives: whole datagrams, each with its address."""

import asyncio
import contextlib
import contextvars
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import garbage
import pytest
import wire
from datagrams import Recorder, bound, endpoint, pair, receive_all
from interpreter import not_on_pypy

ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])


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
@pytest.mark.parametrize(("count", "size"), [(32, 10), (4, 20_000)])
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
            garbage.let_go()  # of the memoryview
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
        pytest.param("IPv4", ["127.0.0.1", 9], marks=not_on_pypy("a list is an address as well")),
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
        with bound(kind, folder) as standard, pytest.raises((TypeError, ValueError, OverflowError)) as expected:
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
            with bound("IPv6", folder) as standard, pytest.raises(OSError) as expected:
                standard.sendto(b"y", address)
            assert [(type(exc), exc.errno) for exc in protocol.errors] == [(expected.type, expected.value.errno)]
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
        garbage.collect()
    with pytest.raises(OSError):
        os.fstat(fds[0])
