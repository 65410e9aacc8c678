"""Names to addresses and back: `getaddrinfo(3)` and `getnameinfo(3)`, in a thread where they could block."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from epoll_loop.core.reactor import Reactor

if TYPE_CHECKING:
    import asyncio

    # What a mixin may count on: the room below, and all that the finished loop has.
    class _Base(Reactor, asyncio.AbstractEventLoop):  # type: ignore[misc]
        pass
else:
    _Base = Reactor

AddrInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
"""What `getaddrinfo()` returns a list of: family, type, protocol, canonical name, socket address."""

# With these flags the C library looks at its arguments only: no DNS, no file, so no thread.
_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
_NAME_NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
# What the C library takes where no protocol is asked for.
_PROTOCOLS: dict[int, int] = {socket.SOCK_STREAM: socket.IPPROTO_TCP, socket.SOCK_DGRAM: socket.IPPROTO_UDP}


class Resolving(_Base):
    """The name resolution of the loop."""

    __slots__ = ()

    async def getaddrinfo(  # type: ignore[override]
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002
        proto: int = 0,
        flags: int = 0,
    ) -> list[AddrInfo]:
        """Return what `socket.getaddrinfo()` returns, and raise what it raises (`socket.gaierror`).

        A numeric host with a numeric port is answered at once; names are looked up in the default executor.
        See `loop.getaddrinfo()` of asyncio and getaddrinfo(3).
        """
        lookup: Callable[..., list[AddrInfo]] = socket.getaddrinfo  # type: ignore[assignment]
        try:
            return lookup(host, port, family, type, proto, flags | _NUMERIC)
        except socket.gaierror:
            pass  # not a literal, or wrong in a way that the real call names better
        return await self.run_in_executor(None, lookup, host, port, family, type, proto, flags)

    async def getnameinfo(
        self, sockaddr: tuple[str, int] | tuple[str, int, int] | tuple[str, int, int, int], flags: int = 0
    ) -> tuple[str, str]:
        """Return the `(host, service)` of `socket.getnameinfo()`, and raise what it raises.

        With both `NI_NUMERICHOST` and `NI_NUMERICSERV` nothing is looked up, and no thread is used.
        See getnameinfo(3).
        """
        lookup: Callable[..., tuple[str, str]] = socket.getnameinfo
        if flags & _NAME_NUMERIC == _NAME_NUMERIC:
            return lookup(sockaddr, flags)
        return await self.run_in_executor(None, lookup, sockaddr, flags)

    async def _ensure_resolved(
        self,
        address: tuple[Any, ...],
        *,
        family: int = 0,
        type: int = socket.SOCK_STREAM,  # noqa: A002
        proto: int = 0,
        flags: int = 0,
    ) -> list[AddrInfo]:
        """Resolve `(host, port)` or `(host, port, flowinfo, scope_id)` to addresses to connect or bind to."""
        host, port, *ipv6_rest = address
        if not (ipv6_rest or family or proto or flags):
            info = _literal(host, port, type)
            if info is not None:
                return [info]
        infos = await self.getaddrinfo(host, port, family=family, type=type, proto=proto, flags=flags)
        if not infos:
            raise OSError(f"getaddrinfo({host!r}) returned empty list")
        if ipv6_rest:
            infos = [_with_scope(info, *ipv6_rest) for info in infos]
        return infos


def _literal(host: Any, port: Any, kind: int) -> AddrInfo | None:
    """Return what getaddrinfo(3) makes of a numeric IPv4 address and port, without asking it; None for all else."""
    try:
        if port.__class__ is int and 0 <= port <= 0xFFFF:
            socket.inet_pton(socket.AF_INET, host)
            return socket.AF_INET, socket.SocketKind(kind), _PROTOCOLS[kind], "", (host, port)
    except (OSError, TypeError, KeyError):
        pass
    return None


def _with_scope(info: AddrInfo, flowinfo: int = 0, scope_id: int = 0) -> AddrInfo:
    """Put the given flow label and interface into an IPv6 address that names no interface itself."""
    if len(info[4]) == 4 and not info[4][3]:
        return *info[:4], (*info[4][:2], flowinfo, scope_id)
    return info
