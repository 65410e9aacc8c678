"""Client connections: `connect(2)` without blocking, to one address after the other or several at once."""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from epoll_loop.core.missing import UNIX_SOCKETS, need
from epoll_loop.net.checks import (
    bind_error,
    check_not_tls_socket,
    check_socket,
    check_stream,
    check_unix_stream,
)
from epoll_loop.net.happy_eyeballs import interleave as interleave_families
from epoll_loop.net.happy_eyeballs import race
from epoll_loop.net.resolve import AddrInfo, Resolving
from epoll_loop.net.tls import done, tls_of
from epoll_loop.transports.stream import open_stream
from epoll_loop.transports.tls import open_tls

if TYPE_CHECKING:
    from ssl import SSLContext

    from epoll_loop.transports.tls import TLS


P = TypeVar("P", bound="asyncio.BaseProtocol")

logger = logging.getLogger("asyncio")

_NONBLOCK = getattr(socket, "SOCK_NONBLOCK", 0)  # saves a system call
# What a connect that goes on says: the last one on Windows.
_GOES_ON = (errno.EINPROGRESS, errno.EINTR, getattr(errno, "WSAEWOULDBLOCK", errno.EINPROGRESS))


class Connecting(Resolving):
    """The clients of the loop."""

    __slots__ = ()

    async def create_connection(
        self,
        protocol_factory: Callable[[], P],
        host: str | None = None,
        port: int | str | None = None,
        *,
        ssl: bool | SSLContext | None = None,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        sock: socket.socket | None = None,
        local_addr: tuple[str, int] | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        happy_eyeballs_delay: float | None = None,
        interleave: int | None = None,
        all_errors: bool = False,
    ) -> tuple[asyncio.Transport, P]:
        """Connect to a TCP server, and return the transport and the protocol.

        `connection_made()` has been called by then. Without `happy_eyeballs_delay` (seconds, RFC 8305) the
        addresses are tried one after the other. Raises OSError, or with `all_errors` an ExceptionGroup of
        every failure. See `loop.create_connection()` of asyncio.
        """
        if server_hostname is not None and not ssl:
            raise ValueError("server_hostname is only meaningful with ssl")
        if server_hostname is None and ssl and not host:
            raise ValueError("You must set server_hostname when using ssl without a host")
        tls = tls_of(ssl, False, server_hostname or host, ssl_handshake_timeout, ssl_shutdown_timeout)
        check_not_tls_socket(sock)
        named = host is not None or port is not None
        if named and sock is not None:
            raise ValueError("host/port and sock can not be specified at the same time")
        if not named:
            if sock is None:
                raise ValueError("host and port was not specified and no sock specified")
            check_stream(sock)

        if sock is not None:
            sock.setblocking(False)
            return await self._open(_protocol_for(sock, protocol_factory), sock, tls, borrowed=True)

        infos = await self._ensure_resolved((host, port), family=family, proto=proto, flags=flags)
        local_infos = None
        if local_addr is not None:
            local_infos = await self._ensure_resolved(local_addr, family=family, proto=proto, flags=flags)
        if happy_eyeballs_delay is not None and interleave is None:
            interleave = 1
        if interleave:
            infos = interleave_families(infos, interleave)
        connected = await self._connect_any(infos, local_infos, happy_eyeballs_delay, all_errors)
        return await self._hand_over(protocol_factory, connected, tls)

    async def create_unix_connection(
        self,
        protocol_factory: Callable[[], P],
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes] | None = None,
        *,
        ssl: bool | SSLContext | None = None,
        sock: socket.socket | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, P]:
        """Connect to a Unix stream socket: a path, or a name in the abstract space (zero byte first).

        Raises OSError; BlockingIOError when the backlog of the server is full. See unix(7) and
        `loop.create_unix_connection()` of asyncio.
        """
        need(UNIX_SOCKETS, "Unix sockets")
        if ssl:
            if server_hostname is None:
                raise ValueError("you have to pass server_hostname when using ssl")
        elif server_hostname is not None:
            raise ValueError("server_hostname is only meaningful with ssl")
        tls = tls_of(ssl, False, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout)
        check_not_tls_socket(sock)
        if path is not None and sock is not None:
            raise ValueError("path and sock can not be specified at the same time")
        if path is None:
            if sock is None:
                raise ValueError("no path and sock were specified")
            check_unix_stream(sock)
        if sock is not None:
            sock.setblocking(False)
            return await self._open(_protocol_for(sock, protocol_factory), sock, tls, borrowed=True)
        assert path is not None
        address = os.fspath(path)
        sock = _new_socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            await self._connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return await self._hand_over(protocol_factory, sock, tls)

    async def connect_accepted_socket(
        self,
        protocol_factory: Callable[[], P],
        sock: socket.socket,
        *,
        ssl: bool | SSLContext | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, P]:
        """Serve a connection that was accepted outside of the loop.

        See `loop.connect_accepted_socket()` of asyncio.
        """
        check_stream(sock)
        tls = tls_of(ssl, True, None, ssl_handshake_timeout, ssl_shutdown_timeout)
        check_not_tls_socket(sock)
        sock.setblocking(False)
        return await self._open(_protocol_for(sock, protocol_factory), sock, tls, borrowed=True)

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect a non-blocking socket to an address, which is looked up first if it is a name.

        Raises OSError, TypeError for a `ssl.SSLSocket`, and in debug mode ValueError for a blocking socket. See
        `loop.sock_connect()` of asyncio.
        """
        check_socket(sock, self._debug)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            infos = await self._ensure_resolved(address, family=sock.family, type=sock.type, proto=sock.proto)
            address = infos[0][4]
        await self._connect(sock, address)

    async def _open(
        self, protocol: P, sock: socket.socket, tls: TLS | None, *, borrowed: bool = False
    ) -> tuple[asyncio.Transport, P]:
        """Put a protocol and a transport on a connected, non-blocking socket."""
        if self._watch_of(sock) is None:
            # Nothing has been waited for yet: let a server in the same loop accept, before the caller closes it, say.
            try:
                await asyncio.sleep(0)
            except BaseException:
                sock.close()  # cancelled; also the caller's own, as everywhere else
                raise
        transport: Any
        handshake = None if tls is None else self.create_future()
        try:
            if tls is None:
                transport = open_stream(self, sock, protocol, borrowed)
            else:
                transport = open_tls(self, sock, protocol, borrowed, tls, handshake)
        except BaseException:
            if not borrowed:
                self._drop(sock)
            raise
        if handshake is not None:
            try:
                await done(handshake, transport)
            finally:
                del handshake  # its exception knows this frame: no cycle
        if self._debug:
            logger.debug("%r connected: (%r, %r)", sock, transport, protocol)
        return transport, protocol

    async def _hand_over(
        self, protocol_factory: Callable[[], P], sock: socket.socket, tls: TLS | None
    ) -> tuple[asyncio.Transport, P]:
        """Open a connection of our own making; whatever fails before a transport has it closes it."""
        try:
            protocol = protocol_factory()
        except BaseException:
            self._drop(sock)
            raise
        return await self._open(protocol, sock, tls)

    async def _connect_any(
        self,
        infos: list[AddrInfo],
        local_infos: list[AddrInfo] | None,
        delay: float | None,
        all_errors: bool,
    ) -> socket.socket:
        """Connect to the first of the addresses that answers."""
        errors: list[list[OSError]] = []  # a list for each attempt, in the order of their starts
        connected = None
        try:
            if delay is None or len(infos) == 1:
                for info in infos:
                    try:
                        connected = await self._connect_one(errors, info, local_infos)
                        break
                    except OSError:
                        continue
            else:
                attempts = [functools.partial(self._connect_one, errors, info, local_infos) for info in infos]
                connected = await race(attempts, delay, self._drop)
            if connected is None:
                raise _as_one([error for attempt in errors for error in attempt], all_errors)
            return connected
        finally:
            for attempt in errors:
                attempt.clear()  # the frames below know the list, and an exception knows its frames: no cycle

    async def _connect_one(
        self, errors: list[list[OSError]], info: AddrInfo, local_infos: list[AddrInfo] | None
    ) -> socket.socket:
        """Make, bind and connect one socket; each OSError goes to `errors`, the last is raised too."""
        family, type_, proto, _, address = info
        failed: list[OSError] = []
        errors.append(failed)
        sock = None
        try:
            sock = _new_socket(family, type_, proto)
            if local_infos is not None:
                _bind(sock, [info[4] for info in local_infos if info[0] == family], failed)
            connect = self.sock_connect
            if getattr(connect, "__func__", None) is Connecting.sock_connect:
                await self._connect(sock, address)  # which looks up no name
            else:
                await connect(sock, address)  # somebody has put their own in its place
            return sock
        except BaseException as exc:
            if isinstance(exc, OSError):
                failed.append(exc)
            if sock is not None:
                try:
                    sock.close()
                except OSError:
                    pass  # it is what went wrong first that counts
            raise

    async def _connect(self, sock: socket.socket, address: Any) -> None:
        """Connect a non-blocking socket. If it had to wait, the socket's registration goes on.

        Raises OSError. Unless it returns, nothing is registered any more; the socket stays open either way.
        """
        code = sock.connect_ex(address)
        if code == 0:
            return
        # EINTR too means that it goes on; EAGAIN does not (a Unix socket, and the backlog is full).
        if code not in _GOES_ON:
            raise OSError(code, os.strerror(code))
        # To the same host, the handshake is over by the time that connect(2) says EINPROGRESS.
        while not _is_connected(sock):
            # I9: not before this point, since an unconnected socket reports OUT and HUP at once.
            try:
                await self._until_writable(sock)
                # Which news it was is told by SO_ERROR, not by the event.
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    raise OSError(code, f"Connect call failed {address}")
            except BaseException:
                self._unwatch(sock)
                raise

    def _drop(self, sock: socket.socket) -> None:
        """Give up a connection that no transport has taken over."""
        self._unwatch(sock)
        sock.close()


def _protocol_for(sock: socket.socket, protocol_factory: Callable[[], P]) -> P:
    """Make the protocol of a socket, which is closed if it gets none: also the caller's own, as everywhere else."""
    try:
        return protocol_factory()
    except BaseException:
        sock.close()
        raise


def _new_socket(family: int, type_: int, proto: int = 0) -> socket.socket:
    sock = socket.socket(family, type_ | _NONBLOCK, proto)
    if not _NONBLOCK:
        sock.setblocking(False)
    return sock


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _bind(sock: socket.socket, addresses: list[Any], failed: list[OSError]) -> None:
    """Bind to the first of the addresses that the kernel accepts; the errors before it go to `failed`."""
    for address in addresses:
        try:
            sock.bind(address)
            return
        except OSError as exc:
            failed.append(bind_error(address, exc))
    if failed:
        raise failed.pop()
    raise OSError(f"no matching local address with family={sock.family!r} found")


def _as_one(errors: list[OSError], all_errors: bool) -> Exception:
    """One exception for all of the failed attempts."""
    if all_errors:
        return ExceptionGroup("create_connection failed", errors)
    texts = [str(error) for error in errors]
    if len(set(texts)) == 1:
        return errors[0]
    return OSError(f"Multiple exceptions: {', '.join(texts)}")
