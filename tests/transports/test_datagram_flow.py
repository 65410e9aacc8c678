"""Flow control of datagrams, and how their transport ends."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import wire
from datagrams import Recorder, blocked, bound, endpoint, pair, receive_all

import epoll_loop

ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])


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


@ours  # asyncio's datagram transports can not be paused
async def test_paused_in_the_middle_of_a_batch(folder: Path) -> None:
    """What was received already waits as well."""
    protocol = Recorder()
    with bound("IPv4", folder) as peer:
        async with endpoint(bound("IPv4", folder), protocol) as transport:
            protocol.hooks["datagram_received"] = transport.pause_reading
            for i in range(40):  # more than a batch
                peer.sendto(b"%d" % i, transport.get_extra_info("sockname"))
            for count in range(1, 4):
                await protocol.until_datagrams(count)
                await wire.turns()
                assert len(protocol.found) == count
                assert not transport.is_reading()
                transport.resume_reading()
            del protocol.hooks["datagram_received"]
            transport.resume_reading()
            assert await protocol.until_datagrams(40) == [b"%d" % i for i in range(40)]
