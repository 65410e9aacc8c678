"""Listener: accepts connections and gives each its protocol and transport."""

from __future__ import annotations

import errno
import os
import socket
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from epoll_loop.core import syscalls
from epoll_loop.core.poller import Channel
from epoll_loop.transports.stream import StreamTransport
from epoll_loop.transports.tls import accept_tls

if TYPE_CHECKING:
    from epoll_loop.core.reactor import Reactor

# Accepts an iteration: a flood of new connections must not starve the established ones.
_BUDGET = 64
# What the system may run out of when a descriptor is to be opened, see socket(2) and accept(2).
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
# Seconds before another try when the system has run out of what a connection needs.
_RETRY = 1.0

_EAGAIN = errno.EAGAIN
# The connection was gone before we came, a signal came first, or Linux says what is wrong with the network of this one,
# see accept(2): the next one may be there (I20).
_NAMES = "ECONNABORTED EINTR EPROTO EPERM ENETDOWN ENOPROTOOPT EHOSTDOWN ENONET EHOSTUNREACH EOPNOTSUPP ENETUNREACH"
_NEXT = tuple(getattr(errno, name) for name in _NAMES.split() if hasattr(errno, name))


class Listener(Channel):
    """A listening stream socket, edge-triggered: it goes on accepting until EAGAIN, a budget at a time."""

    __slots__ = (
        "_backlog",
        "_context",
        "_exhausted",
        "_factory",
        "_hold",
        "_loop",
        "_server",
        "_timer",
        "_tls",
        "sock",
    )

    def __init__(
        self,
        loop: Reactor,
        sock: socket.socket,
        protocol_factory: Callable[[], Any],
        server: Any,
        backlog: int,
        tls: Any,
    ) -> None:
        Channel.__init__(self, sock.fileno())
        self._loop = loop
        self._context = syscalls.copy_context()  # every connection starts with a copy of it
        self.sock = sock
        self._hold = sock.makefile("rb", buffering=0)  # the number is ours until stop(), whoever closes the socket
        self._factory = protocol_factory
        self._server = server
        self._backlog = backlog
        self._tls = tls
        self._exhausted = False
        self._timer: Any = None

    def start(self) -> None:
        """listen(2), and accept from now on."""
        if self.sock.family in (socket.AF_INET, socket.AF_INET6):
            # An accepted socket inherits it: one system call here instead of one a connection.
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.listen(self._backlog)
        self._loop._poller.add(self, True)

    def stop(self) -> None:
        """Accept no more and close the socket. Calling it again has no effect."""
        if self.fd < 0:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._loop._poller.remove(self)
        self.fd = -1
        try:
            self.sock.close()
        finally:
            self._hold.close()

    def abandon(self) -> None:
        self._server.close()

    def on_ready(self) -> None:
        if not self.readable or self._timer is not None:
            return
        for _ in range(_BUDGET):
            if self.fd < 0:
                return  # a protocol has closed the server
            accepted = syscalls.accept(self.sock, self.fd)
            if not isinstance(accepted, int):
                self._exhausted = False
                self._connect(accepted)
            elif -accepted == _EAGAIN:
                self.readable = False
                return
            elif -accepted not in _NEXT:
                self._failed(-accepted)
                return
        self.carry_over()

    def _connect(self, accepted: tuple[Any, int, Any]) -> None:
        sock, fd, peer = accepted
        transport = None
        try:
            context = self._context.copy()
            protocol = syscalls.call0(context, self._factory)
            if self._tls is None:
                transport = StreamTransport(self._loop, sock, fd, peer, context, self._server)
            else:
                if self._tls.in_kernel and sock is None:
                    sock = syscalls.socket_of(fd, peer)  # and so it is closed once, here or there
                transport = accept_tls(self._loop, sock, fd, peer, context, self._server, self._tls)
            transport._open(protocol)
        except BaseException as exc:
            if transport is None:
                syscalls.close(sock, fd)
            else:
                if transport.armed and self._server is not None:
                    self._server._detach(transport)
                self._loop._poller.remove(transport)
                transport._close_fd()
            if isinstance(exc, (SystemExit, KeyboardInterrupt)):
                raise
            self._loop.call_exception_handler(  # type: ignore[attr-defined]
                {"message": "Error on transport creation for incoming connection", "exception": exc}
            )

    def _failed(self, number: int) -> None:
        # The readiness stays: the kernel says nothing more of the connections that wait, so a timer asks for them
        # (I20). Anything else than exhaustion is a bug, or a descriptor closed behind our back; it is treated alike.
        self._timer = self._loop.call_later(_RETRY, self._retry)
        if self._exhausted and number in EXHAUSTED:
            return  # one record is enough
        self._exhausted = True
        reason = "out of system resource" if number in EXHAUSTED else "failed"
        self._loop.call_exception_handler(  # type: ignore[attr-defined]
            {
                "message": f"socket.accept() {reason}",
                "exception": OSError(number, os.strerror(number)),
                "socket": TransportSocket(self.sock),
            }
        )

    def _retry(self) -> None:
        self._timer = None
        self.carry_over()

    def __repr__(self) -> str:
        return f"<Listener fd={self.fd} {self.sock!r}>"
