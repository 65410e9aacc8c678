"""create_datagram_endpoint(): arguments, addresses, failures, and what is left open after them."""

import asyncio
import contextlib
import errno
import re
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import garbage
import pytest
from interpreter import PATIENCE

ASYNCIO_TOO = True
LIMIT = 10 * PATIENCE

ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])
pytestmark = pytest.mark.usefixtures("no_descriptor_left")


class Recorder(asyncio.DatagramProtocol):
    """Keeps datagrams and what it is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.found: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()
        self.lost: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.calls.append("connection_made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.found.put_nowait((data, addr))

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("connection_lost")
        self.lost.set_result(exc)

    async def next(self) -> tuple[bytes, Any]:
        async with asyncio.timeout(LIMIT):
            return await self.found.get()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose name is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="d") as name:
        yield Path(name)


async def create(*args: Any, **kwargs: Any) -> tuple[Any, Recorder]:
    """An endpoint with a recorder."""
    return await asyncio.get_running_loop().create_datagram_endpoint(Recorder, *args, **kwargs)


async def finish(*transports: Any) -> None:
    for transport in transports:
        protocol = transport.get_protocol()
        transport.abort()
        assert await protocol.lost is None


async def exchange(first: tuple[Any, Recorder], second: tuple[Any, Recorder]) -> None:
    """Have the second endpoint, which knows where the first is, ask it, and the first one answer."""
    second[0].sendto(b"question")
    data, address = await first[1].next()
    assert data == b"question"
    first[0].sendto(b"answer", address)
    assert (await second[1].next())[0] == b"answer"


# Addresses


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_server_and_client(host: str) -> None:
    server = await create(local_addr=(host, 0))
    name = server[0].get_extra_info("sockname")
    assert name[0] == host
    client = await create(remote_addr=name[:2])
    assert client[0].get_extra_info("peername")[:2] == name[:2]
    assert client[1].calls == ["connection_made"]
    await exchange(server, client)
    await finish(server[0], client[0])


async def test_names_are_looked_up() -> None:
    server = await create(local_addr=("localhost", 0), family=socket.AF_INET)
    client = await create(remote_addr=("localhost", server[0].get_extra_info("sockname")[1]), family=socket.AF_INET)
    await exchange(server, client)
    await finish(server[0], client[0])


async def test_both_addresses() -> None:
    server = await create(local_addr=("127.0.0.1", 0))
    client = await create(local_addr=("127.0.0.2", 0), remote_addr=server[0].get_extra_info("sockname"))
    assert client[0].get_extra_info("sockname")[0] == "127.0.0.2"
    await exchange(server, client)
    await finish(server[0], client[0])


@pytest.mark.parametrize("abstract", [False, True])
async def test_unix(folder: Path, abstract: bool) -> None:
    begin = f"\0{folder}" if abstract else str(folder)
    server = await create(local_addr=f"{begin}/server", family=socket.AF_UNIX)
    client = await create(local_addr=f"{begin}/client", remote_addr=f"{begin}/server", family=socket.AF_UNIX)
    name = f"{begin}/server"
    assert client[0].get_extra_info("peername") == (name.encode() if abstract else name)
    await exchange(server, client)
    await finish(server[0], client[0])


async def test_a_family_and_no_address() -> None:
    server = await create(local_addr=("127.0.0.1", 0))
    transport, protocol = await create(family=socket.AF_INET)
    transport.sendto(b"hello", server[0].get_extra_info("sockname"))
    data, address = await server[1].next()
    server[0].sendto(data, address)
    assert await protocol.next() == (b"hello", server[0].get_extra_info("sockname"))
    await finish(server[0], transport)


async def test_a_stale_socket_file_is_removed(folder: Path) -> None:
    path = str(folder / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stale:
        stale.bind(path)
    transport, _ = await create(local_addr=path, family=socket.AF_UNIX)
    assert transport.get_extra_info("sockname") == path
    await finish(transport)


async def test_another_file_is_not_removed(folder: Path) -> None:
    path = folder / "file"
    path.write_text("precious")
    with pytest.raises(OSError, match="in use") as caught:
        await create(local_addr=str(path), family=socket.AF_UNIX)
    assert caught.value.errno == errno.EADDRINUSE
    assert path.read_text() == "precious"


async def test_only_families_that_both_addresses_have() -> None:
    """The first that works of them."""
    loop = asyncio.get_running_loop()
    kind = socket.SOCK_DGRAM, socket.IPPROTO_UDP, ""
    names = {
        "local": [(socket.AF_INET6, *kind, ("::1", 0, 0, 0)), (socket.AF_INET, *kind, ("127.0.0.1", 0))],
        "remote": [(socket.AF_INET, *kind, ("127.0.0.1", 9)), (socket.AF_UNIX, *kind, ("not", 9))],
        "other": [(socket.AF_INET6, *kind, ("::1", 9, 0, 0))],
        "wrong": [(socket.AF_INET6, *kind, ("::2", 0, 0, 0)), (socket.AF_INET, *kind, ("127.0.0.1", 0))],
    }
    numeric = loop.getaddrinfo

    async def lookup(host: Any, *args: Any, **kwargs: Any) -> Any:
        return names.get(host) or await numeric(host, *args, **kwargs)

    loop.getaddrinfo = lookup  # type: ignore[method-assign]
    transport, _ = await create(local_addr=("local", 0), remote_addr=("remote", 9))
    assert transport.get_extra_info("peername") == ("127.0.0.1", 9)
    await finish(transport)
    transport, _ = await create(local_addr=("wrong", 0))  # nobody has ::2
    assert transport.get_extra_info("sockname")[0] == "127.0.0.1"
    await finish(transport)
    with pytest.raises(ValueError, match=r"^can not get address information$"):
        await create(local_addr=("other", 0), remote_addr=("remote", 9))
    names["empty"] = []
    loop.getaddrinfo = lambda *args, **kwargs: asyncio.sleep(0, [])  # type: ignore[method-assign,return-value]
    with pytest.raises(OSError, match=r"returned empty list$"):
        await create(local_addr=("empty", 0))


# Options


async def test_reuse_port() -> None:
    first, _ = await create(local_addr=("127.0.0.1", 0), reuse_port=True)
    second, _ = await create(local_addr=first.get_extra_info("sockname"), reuse_port=True)
    for transport in (first, second):
        assert transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
    with pytest.raises(OSError, match="in use"):
        await create(local_addr=first.get_extra_info("sockname"))
    await finish(first, second)


async def test_broadcast() -> None:
    """The answers come from other addresses than the one that is sent to."""
    server = await create(local_addr=("0.0.0.0", 0))
    port = server[0].get_extra_info("sockname")[1]
    client = await create(remote_addr=("127.255.255.255", port), allow_broadcast=True)
    assert client[0].get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
    assert client[0].get_extra_info("peername") is None
    await exchange(server, client)
    client[0].sendto(b"again", ("127.255.255.255", port))
    assert (await server[1].next())[0] == b"again"
    with pytest.raises(ValueError, match="Invalid address: must be None or"):
        client[0].sendto(b"x", ("127.0.0.1", port))
    await finish(server[0], client[0])


async def test_a_given_socket() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        server = await create(sock=sock)
        assert sock.gettimeout() == 0
        client = await create(remote_addr=sock.getsockname())
        await exchange(server, client)
        await finish(server[0], client[0])


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({}, ValueError, "unexpected address family"),
        ({"local_addr": "localhost"}, TypeError, "2-tuple is expected"),
        ({"local_addr": ("127.0.0.1",)}, TypeError, "2-tuple is expected"),
        ({"local_addr": ["127.0.0.1", 0]}, TypeError, "2-tuple is expected"),
        ({"local_addr": ("127.0.0.1", 0, 0)}, TypeError, "2-tuple is expected"),
        ({"remote_addr": ("127.0.0.1", 1, 2, 3)}, TypeError, "2-tuple is expected"),
        ({"local_addr": ("127.0.0.1", 0), "family": socket.AF_UNIX}, TypeError, "string is expected"),
        ({"remote_addr": b"/path", "family": socket.AF_UNIX}, TypeError, "string is expected"),
        (
            {"local_addr": ("127.0.0.1", 0), "remote_addr": ("::1", 9)},
            ValueError,
            "can not get address information",
        ),
    ],
)
async def test_arguments_that_are_wrong(arguments: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=f"^{re.escape(text)}$"):
        await create(**arguments)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("local_addr", ("127.0.0.1", 0)),
        ("remote_addr", ("127.0.0.1", 9)),
        ("family", 1),
        ("proto", 1),
        ("flags", 1),
        ("reuse_port", True),
        ("allow_broadcast", True),
    ],
)
async def test_a_given_socket_is_as_it_is(name: str, value: Any) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        text = f"socket modifier keyword arguments can not be used when sock is specified. ({name}={value})"
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            await create(sock=sock, **{name: value})
        assert sock.fileno() >= 0
        assert sock.gettimeout() is None


async def test_a_stream_socket() -> None:
    with socket.socket() as sock, pytest.raises(ValueError, match=r"^A (datagram s|UDP S)ocket was expected, got <"):
        await create(sock=sock)


# Failures: whatever it is, what was opened is closed (see no_descriptor_left)


async def test_an_address_that_is_taken() -> None:
    transport, _ = await create(local_addr=("127.0.0.1", 0))
    with pytest.raises(OSError, match="in use") as caught:
        await create(local_addr=transport.get_extra_info("sockname"))
    assert caught.value.errno == errno.EADDRINUSE
    await finish(transport)


async def test_a_remote_address_that_can_not_be() -> None:
    with pytest.raises(PermissionError):  # not without allow_broadcast
        await create(remote_addr=("255.255.255.255", 9))


async def test_nobody_at_a_unix_address(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await create(remote_addr=str(folder / "nobody"), family=socket.AF_UNIX)


async def test_a_factory_that_fails() -> None:
    class Unwell(Exception):
        pass

    def fail() -> Any:
        raise Unwell

    loop = asyncio.get_running_loop()
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        with pytest.raises(Unwell):
            await loop.create_datagram_endpoint(fail, sock=sock)
        assert sock.fileno() >= 0  # it is the caller's


@ours  # asyncio leaves it to the garbage collector
async def test_a_factory_that_fails_leaves_no_socket(descriptors: Callable[[], int]) -> None:
    def fail() -> Any:
        raise LookupError

    before = descriptors()
    with pytest.raises(LookupError) as caught:
        await asyncio.get_running_loop().create_datagram_endpoint(fail, local_addr=("127.0.0.1", 0))
    assert descriptors() == before
    del caught


async def test_connection_made_that_fails() -> None:
    """The loop's exception handler is told; the endpoint is there."""

    class Failing(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            raise LookupError

    loop = asyncio.get_running_loop()
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    transport, _ = await loop.create_datagram_endpoint(Failing, local_addr=("127.0.0.1", 0))
    assert [type(report["exception"]) for report in reports] == [LookupError]
    assert not transport.is_closing()
    await finish(transport)


@ours
async def test_a_socket_that_can_not_be_registered() -> None:
    """It stays the caller's."""
    loop = asyncio.get_running_loop()
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        transport, _ = await create(sock=sock)
        with pytest.raises(OSError, match="exists"):
            await loop.create_datagram_endpoint(Recorder, sock=sock)
        assert sock.fileno() >= 0
        await finish(transport)


async def test_cancelled_while_a_name_is_looked_up() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def lookup(*args: Any) -> Any:
        begun.set()
        assert go_on.wait(LIMIT)
        return []

    loop = asyncio.get_running_loop()
    loop.getaddrinfo = lambda *args, **kwargs: loop.run_in_executor(None, lookup)  # type: ignore
    task = asyncio.create_task(create(local_addr=("name", 0)))
    await asyncio.to_thread(begun.wait, LIMIT)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    await loop.shutdown_default_executor()


async def test_cancelled_while_it_connects() -> None:
    loop = asyncio.get_running_loop()
    waiting = loop.create_future()

    async def connect(sock: socket.socket, address: Any) -> None:
        waiting.set_result(None)
        await asyncio.sleep(LIMIT)

    loop.sock_connect = connect  # type: ignore[method-assign]
    task = asyncio.create_task(create(remote_addr=("127.0.0.1", 9)))
    await waiting
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("turns", range(4))
async def test_cancelled_in_any_turn(turns: int) -> None:
    """Either there is an endpoint, or nothing is left of it."""
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    loop = asyncio.get_running_loop()
    task = asyncio.create_task(loop.create_datagram_endpoint(factory, local_addr=("127.0.0.1", 0)))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        transport, _ = await task
        await finish(transport)
        return
    for protocol in made:
        assert await asyncio.wait_for(protocol.lost, LIMIT) is None
        assert protocol.calls in (["connection_made", "connection_lost"], ["connection_lost"])


def test_endpoints_that_nobody_closes(either_loop: asyncio.AbstractEventLoop) -> None:
    """They are closed with the loop."""

    async def main() -> None:
        for _ in range(20):
            await create(local_addr=("127.0.0.1", 0))

    either_loop.run_until_complete(main())
    with pytest.warns(ResourceWarning):  # noqa: PT031
        either_loop.close()
        garbage.collect()


async def test_debug_mode(caplog: pytest.LogCaptureFixture) -> None:
    asyncio.get_running_loop().set_debug(True)
    with caplog.at_level("DEBUG", "asyncio"):
        transport, _ = await create(local_addr=("127.0.0.1", 0))
    assert any("Datagram endpoint local_addr=('127.0.0.1', 0)" in text for text in caplog.messages)
    await finish(transport)
