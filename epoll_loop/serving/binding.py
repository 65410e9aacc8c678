"""Addresses that many loops serve: bound once, by the parent, which has the sockets for each worker."""

from __future__ import annotations

import socket
from typing import Any

from epoll_loop.net.listen import _bind_unix
from epoll_loop.net.server import SocketFile
from epoll_loop.serving.addresses import Address

_OPTIONS = [socket.SO_REUSEADDR]


class Accepted:
    """An address of which the parent accepts the connections, on its `sockets`."""

    accepts = True

    def __init__(self, sockets: list[socket.socket]) -> None:
        self.sockets = sockets
        # A duplicate has the mode of its original, for both: dup() would make the next accept() of a worker block.
        for sock in sockets:
            sock.setblocking(False)
        self.name = sockets[0].getsockname()
        self._file = None
        if sockets[0].family == getattr(socket, "AF_UNIX", None) and not SocketFile.is_abstract(self.name):
            self._file = SocketFile(self.name)

    def for_worker(self, index: int) -> list[socket.socket]:
        """Return new sockets for the worker of that index."""
        return []

    def close(self) -> None:
        """Close what the parent has of it."""
        for sock in self.sockets:
            sock.close()
        if self._file is not None:
            self._file.remove()


class Shared(Accepted):
    """One socket on which all workers accept: a path can be bound once only."""

    accepts = False

    def for_worker(self, index: int) -> list[socket.socket]:
        return [sock.dup() for sock in self.sockets]


class Apart(Accepted):
    """A socket for each worker, by SO_REUSEPORT. The parent's keep the port ours, and do not listen.

    When a worker is gone, so is its socket, and the kernel gives new connections to the others.
    """

    accepts = False

    def __init__(self, sockets: list[socket.socket], loop: Any) -> None:
        super().__init__(sockets)
        self._loop = loop

    def for_worker(self, index: int) -> list[socket.socket]:
        infos = [(sock.family, sock.type, sock.proto, "", sock.getsockname()) for sock in self.sockets]
        found: list[socket.socket] = self._loop._bind_all(infos, _OPTIONS, True)
        return found


class Datagrams(Accepted):
    """A UDP socket for each worker, by SO_REUSEPORT. What comes while a worker is missing waits for the next one.

    The parent keeps them all: each that is bound gets its part of what comes.
    """

    accepts = False

    def for_worker(self, index: int) -> list[socket.socket]:
        return [self.sockets[index].dup()]


async def bind(loop: Any, address: Address, loops: int, apart: bool) -> Accepted:
    """Bind an address for many loops; `apart`: each accepts what comes to it. OSError if it can not be had."""
    if address.kind == "unix":
        return (Shared if apart else Accepted)([_bind_unix(address.path)])
    if address.kind == "udp":
        return Datagrams(await _bind_datagrams(loop, address, loops))
    infos = await loop._resolve_hosts(address.host, address.port, address.family, socket.AI_PASSIVE)
    sockets = loop._bind_one_port(infos, _OPTIONS, apart or address.reuse_port)
    return Apart(sockets, loop) if apart else Accepted(sockets)


async def _bind_datagrams(loop: Any, address: Address, loops: int) -> list[socket.socket]:
    pairs = await loop._address_pairs((address.host or None, address.port), None, address.family, 0, 0)
    sockets: list[socket.socket] = []
    try:
        for _ in range(loops):
            sock, _ = await loop._bind_any(pairs, True, None)
            sockets.append(sock)
            pairs = [(sock.family, sock.proto, sock.getsockname(), None)]  # the others have the port of the first
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets
