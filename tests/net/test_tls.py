"""TLS on every way to a connection; certificates that are not trusted; arguments."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tls
from tls import NAME, check_echo, echo

ASYNCIO_TOO = True
pytestmark = pytest.mark.usefixtures("no_descriptor_left", "engine")
ours = pytest.mark.asyncio(loop_factories=["epoll_loop"])


@pytest.mark.usefixtures("version")
async def test_tcp(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context)
    async with server:
        address = server.sockets[0].getsockname()
        for _ in range(2):
            await check_echo(*await asyncio.open_connection(*address, ssl=client_context, **NAME))


async def test_the_host_is_the_name(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    async with await asyncio.start_server(echo, "localhost", 0, family=socket.AF_INET, ssl=server_context) as server:
        port = server.sockets[0].getsockname()[1]
        await check_echo(
            *await asyncio.open_connection("localhost", port, family=socket.AF_INET, ssl=client_context), size=100
        )


async def test_a_socket_that_is_connected_already(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context)
    async with server:
        sock = socket.create_connection(server.sockets[0].getsockname())
        await check_echo(*await asyncio.open_connection(sock=sock, ssl=client_context, **NAME))


async def test_unix(server_context: ssl.SSLContext, client_context: ssl.SSLContext, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    server = await asyncio.start_unix_server(echo, path, ssl=server_context)
    async with server:
        await check_echo(*await asyncio.open_unix_connection(path, ssl=client_context, **NAME))


async def test_an_accepted_socket(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connecting = asyncio.create_task(
            asyncio.open_connection(*listening.getsockname(), ssl=client_context, **NAME)
        )
        accepted, _ = await asyncio.to_thread(listening.accept)
    reader = asyncio.StreamReader()
    await loop.connect_accepted_socket(
        lambda: asyncio.StreamReaderProtocol(reader, echo), accepted, ssl=server_context
    )
    await check_echo(*await connecting)


def stranger(context: ssl.SSLContext) -> Any:
    return {"ssl": tls.distrustful_context(), **NAME}


def by_default(context: ssl.SSLContext) -> Any:
    return {"ssl": True, **NAME}


def another_name(context: ssl.SSLContext) -> Any:
    return {"ssl": context, "server_hostname": "example.org"}


def the_address(context: ssl.SSLContext) -> Any:
    return {"ssl": context}


@pytest.mark.parametrize("unix", [False, True], ids=["TCP", "Unix"])
@pytest.mark.parametrize("tls_of", [stranger, by_default, another_name, the_address])
async def test_a_certificate_that_is_not_trusted(
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    tls_of: Callable[[ssl.SSLContext], Any],
    unix: bool,
    tmp_path: Path,
    reports: list[Any],
) -> None:
    """The client gets the reason; for the server it is a connection that went away."""
    loop = asyncio.get_running_loop()
    made: list[tls.Recorder] = []

    def factory() -> tls.Recorder:
        made.append(tls.Recorder())
        return made[-1]

    path = str(tmp_path / "socket")
    arguments = tls_of(client_context)
    if unix:
        arguments.setdefault("server_hostname", "127.0.0.1")
        server = await loop.create_unix_server(factory, path, ssl=server_context)
    else:
        server = await loop.create_server(factory, "127.0.0.1", 0, ssl=server_context)
    async with server:
        with pytest.raises(ssl.SSLCertVerificationError):
            if unix:
                await loop.create_unix_connection(factory, path, **arguments)
            else:
                await loop.create_connection(factory, *server.sockets[0].getsockname(), **arguments)
        server.close()
    assert reports == []
    assert not made[0].calls  # the client's: the first that is made, or the second
    assert not made[-1].calls or made[-1].calls[0] == "connection_made"


CONTEXT = tls.distrustful_context()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"server_hostname": "x"}, ValueError, "server_hostname is only meaningful with ssl"),
        ({"ssl_handshake_timeout": 1}, ValueError, "ssl_handshake_timeout is only meaningful with ssl"),
        ({"ssl_shutdown_timeout": 1}, ValueError, "ssl_shutdown_timeout is only meaningful with ssl"),
        ({"ssl": CONTEXT, "host": ""}, ValueError, "You must set server_hostname when using ssl without a host"),
    ],
)
async def test_what_create_connection_does_not_take(arguments: Any, error: type[Exception], message: str) -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(error) as caught:
        await loop.create_connection(asyncio.Protocol, **{"host": "127.0.0.1", "port": 1, **arguments})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ssl": CONTEXT}, "you have to pass server_hostname when using ssl"),
        ({"server_hostname": "x"}, "server_hostname is only meaningful with ssl"),
        ({"ssl_handshake_timeout": 1}, "ssl_handshake_timeout is only meaningful with ssl"),
        ({"ssl_shutdown_timeout": 1}, "ssl_shutdown_timeout is only meaningful with ssl"),
    ],
)
async def test_what_create_unix_connection_does_not_take(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        await asyncio.get_running_loop().create_unix_connection(asyncio.Protocol, "/nowhere", **arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize("unix", [False, True], ids=["TCP", "Unix"])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"ssl": True}, TypeError, "ssl argument must be an SSLContext or None"),
        ({"ssl_handshake_timeout": 1}, ValueError, "ssl_handshake_timeout is only meaningful with ssl"),
        ({"ssl_shutdown_timeout": 1}, ValueError, "ssl_shutdown_timeout is only meaningful with ssl"),
    ],
)
async def test_what_servers_do_not_take(
    arguments: Any, error: type[Exception], message: str, unix: bool, tmp_path: Path
) -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(error) as caught:
        if unix:
            await loop.create_unix_server(asyncio.Protocol, tmp_path / "socket", **arguments)
        else:
            await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, **arguments)
    assert str(caught.value) == message


@ours  # asyncio leaves it to the collector
@pytest.mark.parametrize("option", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
@pytest.mark.parametrize("value", [0, -1])
async def test_timeouts_that_are_refused(client_context: ssl.SSLContext, option: str, value: int) -> None:
    """The connection that was made for nothing is closed, says the fixture."""
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        with pytest.raises(ValueError, match=f"^{option} should be a positive number, got {value}$"):
            await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=client_context, **NAME, **{option: value}
            )
