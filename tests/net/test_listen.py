"""create_server and create_unix_server: addresses, options, and what is cleaned up."""

import asyncio
import contextlib
import errno
import inspect
import os
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from epoll_loop import Loop


def names(server: Any) -> list[Any]:
    return [sock.getsockname() for sock in server.sockets]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.read())
    writer.close()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"hello")
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


# TCP


async def test_streams_echo() -> None:
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        assert await ask(*await asyncio.open_connection(*names(server)[0])) == b"hello"


@pytest.mark.parametrize("host", ["", None])
async def test_all_interfaces(host: str | None) -> None:
    async with await asyncio.get_running_loop().create_server(asyncio.Protocol, host, 0) as server:
        assert "0.0.0.0" in [name[0] for name in names(server)]
        port = next(name[1] for name in names(server) if name[0] == "0.0.0.0")
        socket.create_connection(("127.0.0.1", port)).close()


async def test_several_hosts_each_of_them_once() -> None:
    hosts = ["127.0.0.1", "127.0.0.2", "127.0.0.1"]
    async with await asyncio.get_running_loop().create_server(asyncio.Protocol, hosts, 0) as server:
        assert [name[0] for name in names(server)] == ["127.0.0.1", "127.0.0.2"]


async def test_ipv6_socket_leaves_ipv4_alone() -> None:
    loop = asyncio.get_running_loop()
    try:
        async with await loop.create_server(asyncio.Protocol, "::", 0):
            pass
    except OSError:
        pytest.skip("no IPv6")
    # IPv4 first: of its ports many may be taken, by connections of others that are over but for a minute.
    async with (
        await loop.create_server(asyncio.Protocol, "0.0.0.0", 0) as server,
        await loop.create_server(asyncio.Protocol, "::", names(server)[0][1]) as other,
    ):
        assert other.sockets[0].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


async def test_family() -> None:
    loop = asyncio.get_running_loop()
    async with await loop.create_server(asyncio.Protocol, None, 0, family=socket.AF_INET) as server:
        assert [sock.family for sock in server.sockets] == [socket.AF_INET]


@pytest.mark.parametrize("value", [None, True, False])
async def test_reuse_address(value: bool | None) -> None:
    loop = asyncio.get_running_loop()
    async with await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, reuse_address=value) as server:
        option = server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        assert bool(option) is (value is not False)


async def test_reuse_port() -> None:
    loop = asyncio.get_running_loop()
    async with await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, reuse_port=True) as first:
        port = names(first)[0][1]
        async with await loop.create_server(asyncio.Protocol, "127.0.0.1", port, reuse_port=True) as second:
            assert names(first) == names(second)


@pytest.mark.parametrize("value", [None, True])
async def test_keep_alive(value: bool | None) -> None:
    loop: Any = asyncio.get_running_loop()
    async with await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, keep_alive=value) as server:
        option = server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert bool(option) is bool(value)


async def test_socket_given() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    async with await asyncio.start_server(echo, sock=sock) as server:
        assert names(server) == [sock.getsockname()]
        assert sock.gettimeout() == 0
        assert await ask(*await asyncio.open_connection(*names(server)[0])) == b"hello"
    assert sock.fileno() == -1


@pytest.mark.parametrize("close", [socket.socket.close, socket.socket.__exit__], ids=["close", "with"])
async def test_the_givers_close_does_not_give_the_number_away(close: Any, descriptors: Any) -> None:
    """Whoever had it next would be accepted from."""
    before = descriptors()
    sock = socket.create_server(("127.0.0.1", 0))
    number, address = sock.fileno(), sock.getsockname()
    async with await asyncio.start_server(echo, sock=sock) as server:
        close(sock, *[None] * 3 if close is socket.socket.__exit__ else ())
        with open(os.devnull) as stranger:
            assert stranger.fileno() != number
            assert names(server) == [address]
            assert await ask(*await asyncio.open_connection(*address)) == b"hello"
    assert sock.fileno() == -1
    while descriptors() > before:  # the connection's other end
        await asyncio.sleep(0)


@pytest.mark.parametrize(("backlog", "expected"), [(0, False), (100, True)])
async def test_backlog(backlog: int, expected: bool) -> None:
    """As many connections wait for the loop as the backlog says."""

    def connected(sock: socket.socket) -> bool:
        try:
            sock.getpeername()
        except OSError:
            return False
        return True

    loop = asyncio.get_running_loop()
    async with await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, backlog=backlog) as server:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.socket()) for _ in range(8)]
            for client in clients:
                client.setblocking(False)
                client.connect_ex(names(server)[0])
            assert all(connected(client) for client in clients) is expected
        server.close()
        server.abort_clients()


async def test_not_started() -> None:
    loop = asyncio.get_running_loop()
    async with await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, start_serving=False) as server:
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(names(server)[0])
        await server.start_serving()
        assert server.is_serving()
        socket.create_connection(names(server)[0]).close()
        await server.start_serving()


async def test_address_in_use(descriptors: Any) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        before = descriptors()
        name = taken.getsockname()
        with pytest.raises(OSError) as caught:
            await loop.create_server(asyncio.Protocol, ["127.0.0.2", "127.0.0.1"], name[1])
        assert descriptors() == before  # the first address was bound, and let go
    assert caught.value.errno == errno.EADDRINUSE
    assert str(caught.value) == (
        f"[Errno {errno.EADDRINUSE}] error while attempting to bind on address {name!r}: "
        f"[errno {errno.EADDRINUSE}] {os.strerror(errno.EADDRINUSE).lower()}"
    )


async def test_address_of_another_host_is_passed_over(descriptors: Any) -> None:
    loop = asyncio.get_running_loop()
    before = descriptors()
    with pytest.raises(OSError, match=r"could not bind on any address out of \[\('192\.0\.2\.1', 0\)\]"):
        await loop.create_server(asyncio.Protocol, "192.0.2.1", 0)
    assert descriptors() == before
    async with await loop.create_server(asyncio.Protocol, ["192.0.2.1", "127.0.0.1"], 0) as server:
        assert [name[0] for name in names(server)] == ["127.0.0.1"]


async def test_listen_fails_and_nothing_is_left(descriptors: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sockets may be bound to one address before one of them listens."""
    loop = asyncio.get_running_loop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        before = descriptors()
        pending = await loop.create_server(asyncio.Protocol, "127.0.0.1", port, start_serving=False)
        other.listen()
        with pytest.raises(OSError, match="in use"):
            await pending.start_serving()
        assert not pending.is_serving()
        pending.close()
        assert descriptors() == before


# Unix


@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
async def test_unix_streams_echo(kind: Any, tmp_path: Path) -> None:
    path = kind(tmp_path / "socket")
    async with await asyncio.start_unix_server(echo, path):
        assert await ask(*await asyncio.open_unix_connection(path)) == b"hello"


async def test_abstract_name() -> None:
    name = f"\0epoll_loop-test-{os.getpid()}"
    async with await asyncio.start_unix_server(echo, name):
        assert await ask(*await asyncio.open_unix_connection(name)) == b"hello"


async def test_file_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    loop: Any = asyncio.get_running_loop()
    server = await loop.create_unix_server(asyncio.Protocol, path, cleanup_socket=True)
    assert stat.S_ISSOCK(path.stat().st_mode)
    server.close()
    assert not path.exists()
    await server.wait_closed()


async def test_file_goes_by_default_where_asyncio_does_so(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with await asyncio.get_running_loop().create_unix_server(asyncio.Protocol, path):
        pass
    assert path.exists() == (sys.version_info < (3, 13))


async def test_file_goes_although_the_directory_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loop: Any = asyncio.get_running_loop()
    async with await loop.create_unix_server(asyncio.Protocol, "socket", cleanup_socket=True):
        monkeypatch.chdir("/")
    assert os.listdir(tmp_path) == []


async def test_no_current_directory_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    loop: Any = asyncio.get_running_loop()
    async with await loop.create_unix_server(asyncio.Protocol, tmp_path / "socket", cleanup_socket=True):
        assert os.listdir(tmp_path) == ["socket"]
    assert os.listdir(tmp_path) == []


async def test_file_stays_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    loop: Any = asyncio.get_running_loop()
    async with await loop.create_unix_server(asyncio.Protocol, path, cleanup_socket=False):
        pass
    assert path.exists()


async def test_file_of_a_given_socket_goes_too(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    loop: Any = asyncio.get_running_loop()
    async with await loop.create_unix_server(asyncio.Protocol, sock=sock, cleanup_socket=True):
        pass
    assert not path.exists()


async def test_file_of_another_server_stays(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    loop = asyncio.get_running_loop()
    async with await loop.create_unix_server(asyncio.Protocol, path):
        path.rename(tmp_path / "moved")  # keeps the inode in use, so that the next file has another
        path.touch()
    assert path.exists()


async def test_removed_file_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "socket"
    async with await asyncio.get_running_loop().create_unix_server(asyncio.Protocol, path):
        path.unlink()
    assert not caplog.records


async def test_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    async with await asyncio.start_unix_server(echo, path):
        assert await ask(*await asyncio.open_unix_connection(path)) == b"hello"


async def test_other_file_is_not_replaced(tmp_path: Path, descriptors: Any) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    before = descriptors()
    with pytest.raises(OSError) as caught:
        await asyncio.get_running_loop().create_unix_server(asyncio.Protocol, path)
    assert caught.value.errno == errno.EADDRINUSE
    assert str(caught.value) == f"[Errno {errno.EADDRINUSE}] Address {str(path)!r} is already in use"
    assert path.read_text() == "precious"
    assert descriptors() == before


async def test_no_such_directory(tmp_path: Path, descriptors: Any) -> None:
    before = descriptors()
    with pytest.raises(FileNotFoundError):
        await asyncio.get_running_loop().create_unix_server(asyncio.Protocol, tmp_path / "no" / "socket")
    assert descriptors() == before


# Arguments


def stream_socket() -> socket.socket:
    return socket.socket()


def datagram_socket() -> socket.socket:
    return socket.socket(type=socket.SOCK_DGRAM)


@pytest.mark.parametrize(
    ("method", "args", "kwargs"),
    [
        ("create_server", (), {}),
        ("create_server", ("127.0.0.1", 0), {"ssl": True}),
        ("create_server", ("127.0.0.1", 0), {"ssl_handshake_timeout": 1}),
        ("create_server", ("127.0.0.1", 0), {"ssl_shutdown_timeout": 1}),
        ("create_server", ("127.0.0.1", 0), {"sock": stream_socket}),
        ("create_server", (), {"sock": datagram_socket}),
        ("create_unix_server", (), {}),
        ("create_unix_server", ("/x",), {"ssl": False}),
        ("create_unix_server", ("/x",), {"ssl_handshake_timeout": 1}),
        ("create_unix_server", ("/x",), {"ssl_shutdown_timeout": 1}),
        ("create_unix_server", ("/x",), {"sock": stream_socket}),
        ("create_unix_server", (), {"sock": stream_socket}),
    ],
)
def test_bad_arguments_are_refused_as_by_asyncio(
    method: str, args: Any, kwargs: Any, loop: asyncio.AbstractEventLoop
) -> None:
    with contextlib.ExitStack() as stack:
        if "sock" in kwargs:
            kwargs = {"sock": stack.enter_context(kwargs["sock"]())}
        reference = asyncio.SelectorEventLoop()
        stack.callback(reference.close)
        refusals = []
        for each in (reference, loop):
            with pytest.raises((ValueError, TypeError)) as caught:
                each.run_until_complete(getattr(each, method)(asyncio.Protocol, *args, **kwargs))
            refusals.append((type(caught.value), str(caught.value)))
    assert refusals[0] == refusals[1]


@pytest.mark.parametrize(
    "method",
    [
        "create_connection",
        "create_unix_connection",
        "connect_accepted_socket",
        "create_server",
        "create_unix_server",
        "getaddrinfo",
        "getnameinfo",
    ],
)
def test_every_argument_of_asyncio_is_there(method: str) -> None:
    """Name, kind and default; arguments that a later Python added are there on every Python."""
    theirs = inspect.signature(getattr(asyncio.SelectorEventLoop, method)).parameters
    ours = inspect.signature(getattr(Loop, method)).parameters
    for name, parameter in theirs.items():
        assert (ours[name].kind, ours[name].default) == (parameter.kind, parameter.default), name
    if sys.version_info >= (3, 13):
        assert list(ours) == list(theirs)
