"""Servers: from addresses or paths to listening sockets."""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from epoll_loop.core.missing import UNIX_SOCKETS, need
from epoll_loop.net.checks import (
    bind_error,
    check_not_tls_socket,
    check_stream,
    check_unix_stream,
    set_reuse_port,
)
from epoll_loop.net.resolve import AddrInfo, Resolving
from epoll_loop.net.server import Server, SocketFile
from epoll_loop.net.tls import tls_of
from epoll_loop.transports.listener import EXHAUSTED

if TYPE_CHECKING:
    from ssl import SSLContext

    from epoll_loop.transports.tls import TLS

logger = logging.getLogger("asyncio")

# Elsewhere it lets several servers have the same port at the same time.
_REUSES = os.name == "posix"
# As asyncio of the running Python has it: older programs remove the file themselves.
_CLEANUP_SOCKET = sys.version_info >= (3, 13)
# How many ports are tried, where several addresses are to have one that is free for all of them.
_TRIES = 10


class Listening(Resolving):
    """The servers of the loop."""

    __slots__ = ()

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | Sequence[str] | None = None,
        port: int | str | None = None,
        *,
        family: int = socket.AF_UNSPEC,
        flags: int = socket.AI_PASSIVE,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: bool | SSLContext | None = None,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        keep_alive: bool | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
    ) -> Server:
        """Serve TCP on every address that the host, or the hosts, resolve to; '' and None: all interfaces.

        Raises OSError. A given `sock` belongs to the server from then on.
        See `loop.create_server()` of asyncio.
        """
        tls = _server_tls(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        check_not_tls_socket(sock)
        if host is not None or port is not None:
            if sock is not None:
                raise ValueError("host/port and sock can not be specified at the same time")
            options = [socket.SO_REUSEADDR] if (_REUSES if reuse_address is None else reuse_address) else []
            if keep_alive:
                options.append(socket.SO_KEEPALIVE)
            infos = await self._resolve_hosts(host, port, family, flags)
            sockets = self._bind_all(infos, options, reuse_port)
        else:
            if sock is None:
                raise ValueError("Neither host/port nor sock were specified")
            check_stream(sock)
            sockets = [sock]
        return self._serve(Server(self, sockets, protocol_factory, backlog, tls), sockets, start_serving)

    async def create_unix_server(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes] | None = None,
        *,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: bool | SSLContext | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        cleanup_socket: bool = _CLEANUP_SOCKET,
    ) -> Server:
        """Serve on a Unix stream socket: a path, or a name in the abstract space (with a zero byte in front).

        With `cleanup_socket` (the default from Python 3.13 on) the file is removed when the server is closed, unless
        it is no longer ours. Raises OSError. See unix(7) and `loop.create_unix_server()` of asyncio.
        """
        need(UNIX_SOCKETS, "Unix sockets")
        tls = _server_tls(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        check_not_tls_socket(sock)
        if path is not None:
            if sock is not None:
                raise ValueError("path and sock can not be specified at the same time")
            sock = _bind_unix(os.fspath(path))
        else:
            if sock is None:
                raise ValueError("path was not specified, and no sock specified")
            check_unix_stream(sock)
        file = None
        try:
            name = sock.getsockname()
            if cleanup_socket and not SocketFile.is_abstract(name):
                file = SocketFile(name)
        except BaseException:
            sock.close()
            raise
        return self._serve(Server(self, [sock], protocol_factory, backlog, tls, file), [sock], start_serving)

    def _serve(self, server: Server, sockets: list[socket.socket], start_serving: bool) -> Server:
        try:
            for sock in sockets:
                sock.setblocking(False)
            if start_serving:
                server._start_serving()
        except BaseException:
            server.close()
            raise
        if self._debug:
            logger.info("%r is serving", server)
        return server

    async def _resolve_hosts(
        self, host: str | Sequence[str] | None, port: int | str | None, family: int, flags: int
    ) -> list[AddrInfo]:
        """Return the addresses of all hosts, each of them once, in the order of the hosts."""
        hosts: Iterable[str | None]
        if host == "":
            hosts = [None]
        elif isinstance(host, str) or not isinstance(host, Iterable):
            hosts = [host]
        else:
            hosts = host
        found = await asyncio.gather(
            *(self._ensure_resolved((name, port), family=family, flags=flags) for name in hosts)
        )
        return list(dict.fromkeys(itertools.chain.from_iterable(found)))

    def _bind_all(self, infos: list[AddrInfo], options: list[int], reuse_port: bool | None) -> list[socket.socket]:
        """Return a bound socket for each address that this host has; OSError if it has none of them."""
        sockets: list[socket.socket] = []
        try:
            for family, type_, proto, _, address in infos:
                try:
                    sock = socket.socket(family, type_, proto)
                except OSError as exc:
                    if exc.errno in EXHAUSTED:
                        raise
                    # The C library knows a family that the kernel does not.
                    if self._debug:
                        logger.warning(
                            "create_server() failed to create socket.socket(%r, %r, %r)",
                            family, type_, proto, exc_info=True,
                        )  # fmt: skip
                    continue
                sockets.append(sock)
                for option in options:
                    sock.setsockopt(socket.SOL_SOCKET, option, 1)
                if reuse_port:
                    set_reuse_port(sock)
                if family == socket.AF_INET6:
                    # IPv4 has a socket of its own; with both in one the second bind would fail.
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                try:
                    sock.bind(address)
                except OSError as exc:
                    error = bind_error(address, exc)
                    if exc.errno != errno.EADDRNOTAVAIL:
                        raise error from None
                    # The family is switched off on this host: serve on the others.
                    sockets.pop().close()
                    if self._debug:
                        logger.warning("%s", error.strerror)
            if not sockets:
                raise OSError(f"could not bind on any address out of {[info[4] for info in infos]!r}")
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        return sockets

    def _bind_one_port(
        self, infos: list[AddrInfo], options: list[int], reuse_port: bool | None, tries: int = _TRIES
    ) -> list[socket.socket]:
        """Do what `_bind_all()` does, and have port 0 be the same one for all."""
        sockets = self._bind_all(infos, options, reuse_port)
        names = [sock.getsockname() for sock in sockets]
        port = names[0][1]
        if all(name[1] == port for name in names):
            return sockets
        others: list[AddrInfo] = []
        for sock, (host, _, *rest) in zip(sockets[1:], names[1:], strict=True):
            others.append((sock.family, sock.type, sock.proto, "", (host, port, *rest)))
            sock.close()
        try:
            return sockets[:1] + self._bind_all(others, options, reuse_port)
        except OSError as exc:
            sockets[0].close()
            if exc.errno != errno.EADDRINUSE or tries == 1:
                raise
        return self._bind_one_port(infos, options, reuse_port, tries - 1)  # that port is free for the first one only


def _bind_unix(path: str | bytes) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if not SocketFile.is_abstract(path):
            SocketFile.remove_stale(path)
        sock.bind(path)
    except BaseException as exc:
        sock.close()
        if isinstance(exc, OSError) and exc.errno == errno.EADDRINUSE:
            raise OSError(errno.EADDRINUSE, f"Address {path!r} is already in use") from None
        raise
    return sock


def _server_tls(ssl: Any, handshake_timeout: float | None, shutdown_timeout: float | None) -> TLS | None:
    if isinstance(ssl, bool):
        raise TypeError("ssl argument must be an SSLContext or None")
    return tls_of(ssl, True, None, handshake_timeout, shutdown_timeout)
