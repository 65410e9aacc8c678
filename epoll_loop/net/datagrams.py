"""Datagram endpoints: UDP, and Unix datagram sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from epoll_loop.net.checks import AF_UNIX, set_reuse_port
from epoll_loop.net.resolve import Resolving
from epoll_loop.net.server import SocketFile
from epoll_loop.transports.datagram import open_datagrams

P = TypeVar("P", bound="asyncio.BaseProtocol")

logger = logging.getLogger("asyncio")

# What asyncio of the running Python says that it wants.
_DATAGRAM_SOCKET = "datagram socket" if sys.version_info >= (3, 12, 3) else "UDP Socket"

_Pair = tuple[int, int, Any, Any]  # family, protocol, local and remote address


class Datagrams(Resolving):
    """The datagram endpoints of the loop."""

    __slots__ = ()

    async def create_datagram_endpoint(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], P],
        local_addr: tuple[str, int] | str | None = None,
        remote_addr: tuple[str, int] | str | None = None,
        *,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        reuse_port: bool | None = None,
        allow_broadcast: bool | None = None,
        sock: socket.socket | None = None,
    ) -> tuple[asyncio.DatagramTransport, P]:
        """Bind a datagram socket, or connect it, or both, and return the transport and the protocol.

        `connection_made()` has been called by then. An address is (host, port), or with family AF_UNIX a path or a
        name in the abstract space (zero byte first). With `allow_broadcast` the socket is not connected: the answers
        come from other addresses than the one that is sent to. Raises OSError. See udp(7), unix(7) and
        `loop.create_datagram_endpoint()` of asyncio.
        """
        address = None
        borrowed = sock is not None
        if sock is not None:
            options = {
                "local_addr": local_addr,
                "remote_addr": remote_addr,
                "family": family,
                "proto": proto,
                "flags": flags,
                "reuse_port": reuse_port,
                "allow_broadcast": allow_broadcast,
            }
            _check_datagram(sock, options)
            sock.setblocking(False)
        else:
            pairs = await self._address_pairs(local_addr, remote_addr, family, proto, flags)
            sock, address = await self._bind_any(pairs, reuse_port, allow_broadcast)
        try:
            protocol = protocol_factory()
            transport: Any = open_datagrams(self, sock, protocol, address, borrowed)
        except BaseException:
            if not borrowed:
                sock.close()
            raise
        if self._debug:
            logger.debug(
                "Datagram endpoint local_addr=%r remote_addr=%r created: (%r, %r)",
                local_addr, remote_addr, transport, protocol,
            )  # fmt: skip
        try:
            await asyncio.sleep(0)
        except BaseException:
            transport.close()
            raise
        return transport, protocol

    async def _address_pairs(
        self, local_addr: Any, remote_addr: Any, family: int, proto: int, flags: int
    ) -> list[_Pair]:
        """Return what to try: family, protocol, and of each given address what it is in that family."""
        if not (local_addr or remote_addr):
            if family == 0:
                raise ValueError("unexpected address family")
            return [(family, proto, None, None)]
        if family == AF_UNIX:
            for path in (local_addr, remote_addr):
                if path is not None and not isinstance(path, str):
                    raise TypeError("string is expected")
            if local_addr and not SocketFile.is_abstract(local_addr):
                SocketFile.remove_stale(local_addr)
            return [(family, proto, local_addr, remote_addr)]
        locals_ = await self._by_family(local_addr, family, proto, flags)
        remotes = await self._by_family(remote_addr, family, proto, flags)
        pairs = [
            (*kind, locals_.get(kind), remotes.get(kind))
            for kind in locals_ | remotes
            if (local_addr is None or kind in locals_) and (remote_addr is None or kind in remotes)
        ]
        if not pairs:
            raise ValueError("can not get address information")
        return pairs

    async def _by_family(self, address: Any, family: int, proto: int, flags: int) -> dict[tuple[int, int], Any]:
        if address is None:
            return {}
        if not (isinstance(address, tuple) and len(address) == 2):
            raise TypeError("2-tuple is expected")
        infos = await self._ensure_resolved(address, family=family, type=socket.SOCK_DGRAM, proto=proto, flags=flags)
        return {(info[0], info[2]): info[4] for info in infos}

    async def _bind_any(
        self, pairs: list[_Pair], reuse_port: bool | None, allow_broadcast: bool | None
    ) -> tuple[socket.socket, Any]:
        """Return a socket for the first of the pairs with which it works, and the remote address."""
        errors: list[OSError] = []
        try:
            for family, proto, local, remote in pairs:
                sock = None
                try:
                    sock = socket.socket(family=family, type=socket.SOCK_DGRAM, proto=proto)
                    if reuse_port:
                        set_reuse_port(sock)
                    if allow_broadcast:
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                    sock.setblocking(False)
                    if local:
                        sock.bind(local)
                    if remote and not allow_broadcast:
                        await self.sock_connect(sock, remote)
                    return sock, remote
                except BaseException as exc:
                    if sock is not None:
                        sock.close()
                    if not isinstance(exc, OSError):
                        raise
                    errors.append(exc)
            raise errors[0]
        finally:
            errors.clear()  # an exception knows its frames, and these know the list: no cycle


def _check_datagram(sock: socket.socket, options: dict[str, Any]) -> None:
    """Raise ValueError for a stream socket, and for what can not be asked of a socket that exists already."""
    if sock.type == socket.SOCK_STREAM:
        raise ValueError(f"A {_DATAGRAM_SOCKET} was expected, got {sock!r}")
    problems = ", ".join(f"{name}={value}" for name, value in options.items() if value)
    if problems:
        raise ValueError(f"socket modifier keyword arguments can not be used when sock is specified. ({problems})")
