"""Datagrams of a UDP address: each is told of with the peer that it came from."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Any

from epoll_loop.transports.conn import Action, parts_of


class Peer:
    """What `Events.data()` has in the place of a connection: who has sent a datagram. A new one for each datagram.

    There is nothing to be opened or closed: `Action.CLOSE` sends what is returned with it, and does nothing else.
    """

    __slots__ = ("_endpoint", "address_index", "context", "remote_address")

    def __init__(self, endpoint: Endpoint, remote_address: Any) -> None:
        self._endpoint = endpoint
        self.address_index = endpoint.index
        self.context: Any = None
        self.remote_address = remote_address

    @property
    def local_address(self) -> Any:
        """The address that is served, in the form of the `socket` module."""
        return self._endpoint.transport.get_extra_info("sockname")

    def write(self, data: Any) -> None:
        """Send a datagram back, which may be empty. TypeError if it is not bytes-like. In the loop's thread only.

        Where more waits than 64 KiB, because the kernel takes no more, nothing is received, and this is dropped.
        """
        self._endpoint.send(data, self.remote_address)

    def wake(self) -> None:
        """Have `Events.woken()` called in the loop's thread. May be called in any thread."""
        self._endpoint.server.call(self._endpoint.woken, self)


class Endpoint(asyncio.DatagramProtocol):
    """The protocol of a UDP address."""

    def __init__(self, server: Any, index: int) -> None:
        self.server = server
        self.index = index
        self._data = server.events.data
        self._full = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.pause_reading()  # what comes before `Events.serving()` was called waits in the kernel

    def begin(self) -> None:
        """Tell of what has come, and of what comes."""
        self.transport.resume_reading()

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.tell("data", self._data, Peer(self, address), data)

    def woken(self, peer: Peer) -> None:
        """What `Peer.wake()` has asked for."""
        if not self.transport.is_closing():
            self.tell("woken", self.server.events.woken, peer)

    # A peer can not be told to wait. What is not received because of that, the kernel drops.

    def pause_writing(self) -> None:
        self._full = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._full = False
        self.transport.resume_reading()

    def error_received(self, exc: Exception) -> None:
        # The program's own doing, unlike what the network says.
        if isinstance(exc, OSError) and exc.errno == errno.EMSGSIZE:
            self.server.report("a datagram is too long to be sent", exc)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.server.endpoint_lost(self)

    def tell(self, name: str, callback: Callable[..., Any], peer: Peer, *data: bytes) -> None:
        """Call a callback of that name; what goes wrong there costs its answer, and nothing else."""
        try:
            out = callback(peer, *data)
            if out is not None:
                self._answer(peer, out, name)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.server.report(f"Events.{name}() failed for a datagram", exc)

    def _answer(self, peer: Peer, out: Any, name: str) -> None:
        if type(out) is bytes:
            if out:
                self.send(out, peer.remote_address)
            return
        data, action = parts_of(out, name)
        if action is Action.DETACH:
            raise TypeError(f"Events.{name}() returned {action} for a datagram, which has no connection")
        if data:
            self.send(data, peer.remote_address)
        if action is Action.SHUTDOWN:
            self.server.shutdown()

    def send(self, data: Any, address: Any) -> None:
        """Send a datagram, unless too many wait."""
        if self._full:
            return
        if self.server.pre_write is not None:
            self.server.pre_write()
        self.transport.sendto(data, address)
