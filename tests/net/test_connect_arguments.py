"""Arguments of the three ways to connect that contradict each other: refused as by asyncio."""

import asyncio
import contextlib
import socket
import ssl
from typing import Any

import pytest


def stream_socket() -> socket.socket:
    return socket.socket()


def datagram_socket() -> socket.socket:
    return socket.socket(type=socket.SOCK_DGRAM)


def tls_socket() -> socket.socket:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(socket.socket(), server_hostname="x")


BAD_ARGUMENTS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("create_connection", (), {}),
    ("create_connection", ("127.0.0.1", 1), {"server_hostname": "x"}),
    ("create_connection", ("127.0.0.1", 1), {"ssl_handshake_timeout": 1}),
    ("create_connection", ("127.0.0.1", 1), {"ssl_shutdown_timeout": 1}),
    ("create_connection", (None, 1), {"ssl": True}),
    ("create_connection", ("", 1), {"ssl": True}),
    ("create_connection", ("127.0.0.1", 1), {"sock": stream_socket}),
    ("create_connection", (), {"sock": datagram_socket}),
    ("create_connection", (), {"sock": tls_socket}),
    ("create_unix_connection", (), {}),
    ("create_unix_connection", ("/x",), {"ssl": True}),
    ("create_unix_connection", ("/x",), {"server_hostname": "x"}),
    ("create_unix_connection", ("/x",), {"ssl_handshake_timeout": 1}),
    ("create_unix_connection", ("/x",), {"ssl_shutdown_timeout": 1}),
    ("create_unix_connection", ("/x",), {"sock": stream_socket}),
    ("create_unix_connection", (), {"sock": stream_socket}),
    ("connect_accepted_socket", (datagram_socket,), {}),
    ("connect_accepted_socket", (tls_socket,), {}),
    ("connect_accepted_socket", (stream_socket,), {"ssl_handshake_timeout": 1}),
    ("connect_accepted_socket", (stream_socket,), {"ssl_shutdown_timeout": 1}),
]


@pytest.mark.parametrize(("method", "args", "kwargs"), BAD_ARGUMENTS)
def test_bad_arguments_are_refused_as_by_asyncio(
    method: str, args: Any, kwargs: Any, loop: asyncio.AbstractEventLoop
) -> None:
    with contextlib.ExitStack() as stack:

        def made(value: Any) -> Any:
            return stack.enter_context(value()) if callable(value) else value

        args = [made(arg) for arg in args]
        kwargs = {name: made(value) for name, value in kwargs.items()}
        reference = asyncio.SelectorEventLoop()
        stack.callback(reference.close)
        refusals = []
        for each in (reference, loop):
            with pytest.raises((ValueError, TypeError)) as caught:
                each.run_until_complete(getattr(each, method)(asyncio.Protocol, *args, **kwargs))
            refusals.append((type(caught.value), str(caught.value)))
    assert refusals[0] == refusals[1]
