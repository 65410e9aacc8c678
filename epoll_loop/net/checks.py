"""Checks of arguments, with asyncio's exceptions and texts."""

from __future__ import annotations

import socket
from typing import Any

AF_UNIX = getattr(socket, "AF_UNIX", None)  # None where there are none

try:
    import ssl as _ssl
except ImportError:  # a Python built without OpenSSL
    _ssl = None  # type: ignore[assignment]


def bind_error(address: Any, exc: OSError) -> OSError:
    """The same error, with the address in its text."""
    return OSError(exc.errno, f"error while attempting to bind on address {address!r}: {str(exc).lower()}")


def check_stream(sock: socket.socket) -> None:
    """Raise ValueError unless it is a stream socket (of any family)."""
    if sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A Stream Socket was expected, got {sock!r}")


def check_unix_stream(sock: socket.socket) -> None:
    """Raise ValueError unless it is a Unix stream socket."""
    if sock.family != AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")


def check_not_tls_socket(sock: socket.socket | None) -> None:
    """Raise TypeError for a `ssl.SSLSocket`, which does TLS on its own."""
    if _ssl is not None and isinstance(sock, _ssl.SSLSocket):
        raise TypeError("Socket cannot be of type SSLSocket")


def check_socket(sock: Any, debug: bool) -> None:
    """Raise TypeError for a `ssl.SSLSocket`, and in debug mode ValueError for a blocking socket."""
    check_not_tls_socket(sock)
    if debug and sock.gettimeout() != 0:
        raise ValueError("the socket must be non-blocking")


def set_reuse_port(sock: socket.socket) -> None:
    """Let other sockets have the same port, SO_REUSEPORT; ValueError where there is no such option."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ValueError("reuse_port not supported by socket module")
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        raise ValueError(
            "reuse_port not supported by socket module, SO_REUSEPORT defined but not implemented."
        ) from None
