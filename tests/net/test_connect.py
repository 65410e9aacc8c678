"""create_connection, create_unix_connection, connect_accepted_socket, against standard sockets."""

import asyncio
import contextlib
import errno
import gc
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import garbage
import pytest


def fake_resolution(monkeypatch: pytest.MonkeyPatch, *addresses: Any) -> None:
    """Let every name resolve to these addresses."""

    async def getaddrinfo(host: Any, port: Any, **kwargs: Any) -> list[Any]:
        families = {2: socket.AF_INET, 4: socket.AF_INET6}
        return [(families[len(addr)], socket.SOCK_STREAM, socket.IPPROTO_TCP, "", addr) for addr in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


@contextlib.contextmanager
def same_descriptors(descriptors: Callable[[], int]) -> Iterator[None]:
    loop: Any = asyncio.get_running_loop()
    before = descriptors(), len(loop._channels())
    yield
    assert (descriptors(), len(loop._channels())) == before


async def talk(transport: Any, protocol: Any, peer: socket.socket) -> None:
    """Send a message each way, then close."""
    peer.setblocking(False)
    peer.send(b"ping")
    await protocol.received.wait()
    assert protocol.data == b"ping"
    transport.write(b"pong")
    transport.close()
    assert await protocol.lost is None
    peer.setblocking(True)
    with peer.makefile("rb") as file:
        assert file.read() == b"pong"


# TCP


async def test_connection(listening: socket.socket, recorder: Any, descriptors: Any) -> None:
    with same_descriptors(descriptors):
        transport, protocol = await asyncio.get_running_loop().create_connection(recorder, *listening.getsockname())
        assert protocol.made.done()
        assert protocol.transport is transport
        assert transport.get_extra_info("peername") == listening.getsockname()
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        peer, _ = listening.accept()
        with peer:
            await talk(transport, protocol, peer)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
async def test_connection_over_ipv6(recorder: Any) -> None:
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no ::1")
    with server:
        port = server.getsockname()[1]
        transport, protocol = await asyncio.get_running_loop().create_connection(recorder, "::1", port)
        assert transport.get_extra_info("peername")[:2] == ("::1", port)
        peer, _ = server.accept()
        with peer:
            await talk(transport, protocol, peer)


async def test_connected_socket(listening: socket.socket, recorder: Any) -> None:
    sock = socket.create_connection(listening.getsockname())
    transport, protocol = await asyncio.get_running_loop().create_connection(recorder, sock=sock)
    peer, _ = listening.accept()
    with peer:
        await talk(transport, protocol, peer)


async def test_socket_pair(recorder: Any) -> None:
    ours, peer = socket.socketpair()
    with peer:
        transport, protocol = await asyncio.get_running_loop().create_connection(recorder, sock=ours)
        await talk(transport, protocol, peer)


async def test_data_that_came_with_the_connection(recorder: Any, listening: socket.socket) -> None:
    """What is readable before the transport takes the registration over is not lost."""
    loop = asyncio.get_running_loop()
    connecting = asyncio.ensure_future(loop.create_connection(recorder, *listening.getsockname()))
    await asyncio.sleep(0)  # connect() has been called, and the kernel has answered
    peer, _ = listening.accept()
    with peer:
        peer.send(b"early")
        peer.shutdown(socket.SHUT_WR)
        _, protocol = await connecting
        await protocol.lost
        assert protocol.data == b"early"


async def test_refused(refusing: tuple[str, int], recorder: Any, descriptors: Any) -> None:
    with same_descriptors(descriptors):
        with pytest.raises(ConnectionRefusedError) as caught:
            await asyncio.get_running_loop().create_connection(recorder, *refusing)
        assert caught.value.errno == errno.ECONNREFUSED
        assert str(caught.value) == f"[Errno {errno.ECONNREFUSED}] Connect call failed {refusing}"


async def test_next_address_after_a_refused_one(
    refusing: Any, listening: socket.socket, recorder: Any, monkeypatch: pytest.MonkeyPatch, descriptors: Any
) -> None:
    fake_resolution(monkeypatch, refusing, listening.getsockname())
    with same_descriptors(descriptors):
        transport, protocol = await asyncio.get_running_loop().create_connection(recorder, "name", 1)
        assert transport.get_extra_info("peername") == listening.getsockname()
        transport.close()
        await protocol.lost


@pytest.mark.parametrize("delay", [None, 0.001])
async def test_several_errors(
    delay: float | None, refusing: Any, recorder: Any, monkeypatch: pytest.MonkeyPatch, descriptors: Any
) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as second, same_descriptors(descriptors):
        second.bind(("127.0.0.1", 0))
        texts = [f"[Errno 111] Connect call failed {address}" for address in (refusing, second.getsockname())]
        fake_resolution(monkeypatch, refusing, second.getsockname())
        with pytest.raises(OSError) as caught:
            await loop.create_connection(recorder, "name", 1, happy_eyeballs_delay=delay)
        assert str(caught.value) == f"Multiple exceptions: {', '.join(texts)}"
        with pytest.raises(ExceptionGroup) as group:
            await loop.create_connection(recorder, "name", 1, happy_eyeballs_delay=delay, all_errors=True)
        assert group.value.message == "create_connection failed"
        assert [str(exc) for exc in group.value.exceptions] == texts


async def test_equal_errors_are_one(refusing: Any, recorder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_resolution(monkeypatch, refusing, refusing)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.get_running_loop().create_connection(recorder, "name", 1)


async def test_no_address(recorder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_resolution(monkeypatch)
    with pytest.raises(OSError, match="returned empty list"):
        await asyncio.get_running_loop().create_connection(recorder, "name", 1)


async def test_silent_address_keeps_the_connect_waiting(silent: Any, recorder: Any, descriptors: Any) -> None:
    """Nothing but the kernel's answer ends the connect, and a cancellation (I9)."""
    with same_descriptors(descriptors):
        connecting = asyncio.ensure_future(asyncio.get_running_loop().create_connection(recorder, *silent))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not connecting.done()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting


async def test_cancelled_although_connected(listening: socket.socket, recorder: Any, descriptors: Any) -> None:
    """A cancellation at any step of a connect leaves nothing behind."""
    loop = asyncio.get_running_loop()
    for steps in range(4):
        with same_descriptors(descriptors):
            connecting = asyncio.ensure_future(loop.create_connection(recorder, *listening.getsockname()))
            for _ in range(steps):
                await asyncio.sleep(0)
            if connecting.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await connecting
            else:
                transport, protocol = await connecting
                transport.close()
                await protocol.lost


async def test_cancelled_with_a_socket_of_the_caller(listening: socket.socket, recorder: Any) -> None:
    """It is closed, as asyncio does: whoever cancels has nothing else to close."""
    loop = asyncio.get_running_loop()
    sock = socket.create_connection(listening.getsockname())
    connecting = asyncio.ensure_future(loop.create_connection(recorder, sock=sock))
    await asyncio.sleep(0)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    assert sock.fileno() == -1


async def test_happy_eyeballs_passes_a_silent_address(
    silent: Any, listening: socket.socket, recorder: Any, monkeypatch: pytest.MonkeyPatch, descriptors: Any
) -> None:
    fake_resolution(monkeypatch, silent, listening.getsockname())
    with same_descriptors(descriptors):
        transport, protocol = await asyncio.get_running_loop().create_connection(
            recorder, "name", 1, happy_eyeballs_delay=0.001
        )
        assert transport.get_extra_info("peername") == listening.getsockname()
        transport.close()
        await protocol.lost


async def test_happy_eyeballs_cancelled(
    silent: Any, recorder: Any, monkeypatch: pytest.MonkeyPatch, descriptors: Any
) -> None:
    loop: Any = asyncio.get_running_loop()
    fake_resolution(monkeypatch, silent, silent)
    with same_descriptors(descriptors):
        channels = len(loop._channels())
        connecting = asyncio.ensure_future(loop.create_connection(recorder, "name", 1, happy_eyeballs_delay=0.001))
        while len(loop._channels()) < channels + 2:
            await asyncio.sleep(0.001)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting


async def test_interleave(refusing: Any, recorder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    six = ("::1", refusing[1], 0, 0)
    fake_resolution(monkeypatch, six, six, refusing)
    with pytest.raises(ExceptionGroup) as group:
        await asyncio.get_running_loop().create_connection(recorder, "name", 1, interleave=1, all_errors=True)
    assert ["127.0.0.1" in str(exc) for exc in group.value.exceptions] == [False, True, False]


async def test_bad_port_is_raised_with_happy_eyeballs_too(
    recorder: Any, monkeypatch: pytest.MonkeyPatch, descriptors: Any
) -> None:
    fake_resolution(monkeypatch, ("127.0.0.1", 70000), ("127.0.0.1", 70000))
    with same_descriptors(descriptors):
        for delay in (None, 0.001):
            with pytest.raises(OverflowError):
                await asyncio.get_running_loop().create_connection(recorder, "name", 1, happy_eyeballs_delay=delay)


async def test_local_address(listening: socket.socket, recorder: Any) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        local = sock.getsockname()
    transport, protocol = await asyncio.get_running_loop().create_connection(
        recorder, *listening.getsockname(), local_addr=local
    )
    assert transport.get_extra_info("sockname") == local
    peer, address = listening.accept()
    with peer:
        assert address == local
        await talk(transport, protocol, peer)


async def test_local_address_in_use(listening: socket.socket, recorder: Any, descriptors: Any) -> None:
    local = listening.getsockname()
    with same_descriptors(descriptors):
        with pytest.raises(OSError) as caught:
            await asyncio.get_running_loop().create_connection(recorder, *local, local_addr=local)
        assert caught.value.errno == errno.EADDRINUSE
        assert str(caught.value) == (
            f"[Errno {errno.EADDRINUSE}] error while attempting to bind on address {local!r}: "
            f"[errno {errno.EADDRINUSE}] {os.strerror(errno.EADDRINUSE).lower()}"
        )


async def test_local_address_of_another_family(listening: socket.socket, recorder: Any) -> None:
    with pytest.raises(OSError, match=r"no matching local address with family=.* found"):
        await asyncio.get_running_loop().create_connection(recorder, *listening.getsockname(), local_addr=("::1", 0))


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("all_errors", [False, True])
async def test_failure_leaves_no_garbage(
    bound: bool, all_errors: bool, refusing: Any, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    fake_resolution(monkeypatch, refusing, refusing)
    local = refusing if bound else None
    with garbage.without_collector():
        with pytest.raises((OSError, ExceptionGroup)):
            await loop.create_connection(recorder, "name", 1, local_addr=local, all_errors=all_errors)
        garbage.let_go()
        left = [found for found in gc.get_objects() if isinstance(found, OSError)]
        assert not [exc for exc in left if exc.errno in (errno.ECONNREFUSED, errno.EADDRINUSE)]


async def test_several_local_addresses(
    listening: socket.socket, refusing: Any, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next local address is tried; what the first one said is told only if the connect fails."""
    loop: Any = asyncio.get_running_loop()
    families = {"local": [refusing, ("127.0.0.1", 0)], "taken": [refusing, refusing], "remote": [refusing]}

    async def getaddrinfo(host: str, port: Any, **kwargs: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in families[host]]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    with pytest.raises(ExceptionGroup) as caught:
        await loop.create_connection(recorder, "remote", 1, local_addr=("local", 0), all_errors=True)
    assert [exc.errno for exc in caught.value.exceptions] == [errno.EADDRINUSE, errno.ECONNREFUSED]
    with pytest.raises(ExceptionGroup) as caught:
        await loop.create_connection(recorder, "remote", 1, local_addr=("taken", 0), all_errors=True)
    assert [exc.errno for exc in caught.value.exceptions] == [errno.EADDRINUSE] * 2
    families["remote"] = [listening.getsockname()]
    transport, protocol = await loop.create_connection(recorder, "remote", 1, local_addr=("local", 0))
    transport.close()
    await protocol.lost


async def test_factory_fails_and_our_socket_is_closed(listening: socket.socket, descriptors: Any) -> None:
    with same_descriptors(descriptors), pytest.raises(ZeroDivisionError):
        await asyncio.get_running_loop().create_connection(lambda: 1 / 0, *listening.getsockname())  # type: ignore[arg-type, return-value]


async def test_factory_fails_and_a_given_socket_is_closed_too() -> None:
    ours, peer = socket.socketpair()
    with ours, peer:
        with pytest.raises(ZeroDivisionError):
            await asyncio.get_running_loop().create_connection(lambda: 1 / 0, sock=ours)  # type: ignore[arg-type, return-value]
        assert peer.recv(1) == b""


async def test_debug_mode_logs_the_connection(
    listening: socket.socket, recorder: Any, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    with caplog.at_level("DEBUG", "asyncio"):
        transport, protocol = await loop.create_connection(recorder, *listening.getsockname())
    assert any("connected" in record.getMessage() for record in caplog.records)
    transport.close()
    await protocol.lost


# Unix


@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
async def test_unix_connection(kind: Any, tmp_path: Path, recorder: Any, descriptors: Any) -> None:
    path = tmp_path / "socket"
    with same_descriptors(descriptors), socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        transport, protocol = await asyncio.get_running_loop().create_unix_connection(recorder, kind(path))
        peer, _ = server.accept()
        with peer:
            await talk(transport, protocol, peer)


async def test_abstract_name(recorder: Any) -> None:
    name = f"\0epoll_loop-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        transport, protocol = await asyncio.get_running_loop().create_unix_connection(recorder, name)
        peer, _ = server.accept()
        with peer:
            await talk(transport, protocol, peer)


async def test_unix_socket_given(recorder: Any) -> None:
    ours, peer = socket.socketpair()
    with peer:
        transport, protocol = await asyncio.get_running_loop().create_unix_connection(recorder, sock=ours)
        await talk(transport, protocol, peer)


async def test_no_unix_server(tmp_path: Path, recorder: Any, descriptors: Any) -> None:
    loop = asyncio.get_running_loop()
    path = tmp_path / "socket"
    with same_descriptors(descriptors):
        with pytest.raises(FileNotFoundError):
            await loop.create_unix_connection(recorder, path)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
        with pytest.raises(ConnectionRefusedError):
            await loop.create_unix_connection(recorder, path)


async def test_full_unix_backlog_is_an_error(tmp_path: Path, recorder: Any, descriptors: Any) -> None:
    """EAGAIN means that nothing is in progress; taken for connected, the socket would fail later."""
    path = str(tmp_path / "socket")
    with contextlib.ExitStack() as stack, same_descriptors(descriptors):
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(path)
        server.listen(0)
        with pytest.raises(BlockingIOError) as caught:
            for _ in range(8):
                transport, _ = await asyncio.get_running_loop().create_unix_connection(recorder, path)
                stack.callback(transport.abort)
        assert caught.value.errno == errno.EAGAIN
        stack.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_unix_factory_fails(tmp_path: Path, descriptors: Any) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server, same_descriptors(descriptors):
        server.bind(path)
        server.listen()
        with pytest.raises(ZeroDivisionError):
            await asyncio.get_running_loop().create_unix_connection(lambda: 1 / 0, path)  # type: ignore[arg-type, return-value]


# Accepted elsewhere


async def test_accepted_socket(listening: socket.socket, recorder: Any, descriptors: Any) -> None:
    with same_descriptors(descriptors), socket.create_connection(listening.getsockname()) as peer:
        accepted, _ = listening.accept()
        transport, protocol = await asyncio.get_running_loop().connect_accepted_socket(recorder, accepted)
        assert protocol.made.done()
        await talk(transport, protocol, peer)


# A socket that the giver closes


async def create(sock: socket.socket, factory: Any) -> Any:
    return await asyncio.get_running_loop().create_connection(factory, sock=sock)


async def create_unix(sock: socket.socket, factory: Any) -> Any:
    return await asyncio.get_running_loop().create_unix_connection(factory, sock=sock)


async def accept(sock: socket.socket, factory: Any) -> Any:
    return await asyncio.get_running_loop().connect_accepted_socket(factory, sock)


@pytest.mark.parametrize("close", [socket.socket.close, socket.socket.__exit__], ids=["close", "with"])
@pytest.mark.parametrize("way", [create, create_unix, accept])
async def test_the_givers_close_does_not_give_the_number_away(
    way: Any, close: Any, recorder: Any, descriptors: Any
) -> None:
    """Whoever had it next would get what is written."""
    with same_descriptors(descriptors):
        ours, peer = socket.socketpair()
        number = ours.fileno()
        transport, protocol = await way(ours, recorder)
        close(ours, *[None] * 3 if close is socket.socket.__exit__ else ())
        with peer, open(os.devnull) as stranger:
            assert stranger.fileno() != number
            assert transport.get_extra_info("socket").fileno() == number
            await talk(transport, protocol, peer)
        assert ours.fileno() == -1


@pytest.mark.parametrize("way", [create, create_unix, accept])
async def test_the_givers_close_in_connection_made_does_not_either(way: Any, recorder: Any, descriptors: Any) -> None:
    class Closer(recorder):  # type: ignore[misc]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            ours.close()

    with same_descriptors(descriptors):
        ours, peer = socket.socketpair()
        number = ours.fileno()
        transport, protocol = await way(ours, Closer)
        with peer, open(os.devnull) as stranger:
            assert stranger.fileno() != number
            await talk(transport, protocol, peer)
        assert ours.fileno() == -1
