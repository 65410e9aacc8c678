"""Errors of datagrams and of protocols: they concern one datagram, and the others go on."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wire
from datagrams import Recorder, bound, endpoint, receive_all

import epoll_loop
from epoll_loop.core import syscalls

ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])


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


pure = pytest.mark.skipif(epoll_loop.COMPILED, reason="replaces system calls of the pure build")


@ours
@pure
@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.EPERM, errno.ENETUNREACH])
async def test_an_error_of_sendmmsg(number: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = Recorder()
    async with endpoint(bound("IPv4", folder), protocol) as transport:
        with bound("IPv4", folder) as peer:
            real = syscalls.send_datagrams
            answers = [1, OSError(number, "injected")]

            def send(sock: Any, fd: int, data: list[bytes], to: list[Any]) -> int:
                if not answers:
                    return real(sock, fd, data, to)
                answer = answers.pop(0)
                if isinstance(answer, OSError):
                    raise answer
                return real(sock, fd, data[:answer], to[:answer])

            monkeypatch.setattr(syscalls, "send_datagrams", send)
            for data in (b"one", b"two", b"three", b"four"):
                transport.sendto(data, peer.getsockname())
            await wire.turns()
            assert receive_all(peer) == [b"one", b"three", b"four"]
            assert [exc.errno for exc in protocol.errors] == [number]


@ours
@pure
@pytest.mark.parametrize("count", [1, 32])
async def test_errors_of_recvmmsg(count: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many: what comes after them is received."""
    protocol = Recorder()
    async with endpoint(bound("IPv4", folder), protocol) as transport:
        with bound("IPv4", folder) as peer:
            await wire.turns()
            real = syscalls.recv_datagrams
            errors: list[Any] = [OSError(errno.ENOMEM, "injected") for _ in range(count)]

            def receive(*args: Any) -> list[Any]:
                found = [*errors, *(real(*args) if len(errors) < syscalls.DATAGRAMS else [])]
                errors.clear()
                return found

            monkeypatch.setattr(syscalls, "recv_datagrams", receive)
            peer.sendto(b"one", transport.get_extra_info("sockname"))
            await protocol.until_datagrams(1)
            assert [exc.errno for exc in protocol.errors] == [errno.ENOMEM] * count


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


NOWHERE = ("255.255.255.255", 9)  # EACCES: broadcasts were not allowed


async def test_an_error_in_the_middle_of_a_callback(folder: Path, reports: list[dict[str, Any]]) -> None:
    """The transport's context is entered already: what the kernel says at once is told all the same."""
    protocol = Recorder()
    with bound("IPv4", folder) as peer:
        async with endpoint(bound("IPv4", folder), protocol) as transport:
            protocol.hooks["datagram_received"] = lambda: transport.sendto(bytes(70000), peer.getsockname())
            peer.sendto(b"go", transport.get_extra_info("sockname"))
            await protocol.until(lambda: protocol.errors)
    assert [exc.errno for exc in protocol.errors if isinstance(exc, OSError)] == [errno.EMSGSIZE]
    assert reports == []


@ours  # asyncio runs into the limit of recursion
async def test_an_error_that_is_answered_by_the_next_one(folder: Path) -> None:
    protocol = Recorder()
    async with endpoint(bound("IPv4", folder), protocol) as transport:
        protocol.hooks["error_received"] = lambda: transport.sendto(b"again", NOWHERE)
        transport.sendto(b"first", NOWHERE)
        for _ in range(20):
            await asyncio.sleep(0)  # the loop goes round
        assert 1 < len(protocol.errors) < 100


def test_the_end_of_a_run_does_not_wait_for_the_last_error(folder: Path) -> None:
    loop = epoll_loop.new_event_loop()
    sock = bound("IPv4", folder)

    async def begin() -> Any:
        protocol = Recorder()
        transport, _ = await loop.create_datagram_endpoint(lambda: protocol, sock=sock)
        protocol.hooks["error_received"] = lambda: transport.sendto(b"again", NOWHERE)
        transport.sendto(b"first", NOWHERE)
        return protocol

    protocol = loop.run_until_complete(begin())
    assert protocol.errors
    protocol.transport.abort()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    sock.close()


@ours  # asyncio asks an epoll set that says yes all the time, and its selector is busy with that
async def test_resumed_when_somebody_elses_datagrams_were_in_the_way(
    folder: Path, reports: list[dict[str, Any]]
) -> None:
    with bound("Unix", folder) as receiver, bound("Unix", folder) as other:
        other.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                other.sendto(b"in the way", receiver.getsockname())
        protocol = Recorder()
        async with endpoint(bound("Unix", folder), protocol) as transport:
            transport.set_write_buffer_limits(high=10)
            transport.sendto(b"more than the mark", receiver.getsockname())
            await protocol.until(lambda: "pause_writing" in protocol.calls)
            receive_all(receiver)
            await protocol.until(lambda: "resume_writing" in protocol.calls)
            assert receive_all(receiver) == [b"more than the mark"]
    assert reports == []
