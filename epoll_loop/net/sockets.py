"""The coroutines on sockets: `sock_recv()`, `sock_sendall()` and the like.

Each tries first, and waits only where the kernel says EAGAIN. It is the coroutine that moves the bytes, when it runs
again, and not the loop on its behalf: one that is cancelled in between has taken none, and touches no descriptor.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from typing import Any

from epoll_loop.core import syscalls
from epoll_loop.core.handles import Handle
from epoll_loop.core.poller import Watch
from epoll_loop.core.reactor import Reactor
from epoll_loop.net.checks import AF_UNIX, check_socket

_Socket = socket.socket
# Seconds between two tries where the kernel does not tell: see sock_sendto().
_FIRST_RETRY = 0.001
_LAST_RETRY = 0.1


class Sockets(Reactor):
    """The coroutines on non-blocking sockets that belong to the caller.

    TypeError for a `ssl.SSLSocket`, in debug mode ValueError for a blocking socket, RuntimeError for one that a
    transport has. See "Working with socket objects directly" of asyncio.
    """

    __slots__ = ()

    _pauses: set[asyncio.Future[None]]

    async def sock_recv(self, sock: socket.socket, nbytes: int) -> bytes:
        """Receive at most `nbytes`; b"" is the end of the stream. OSError of recv(2)."""
        if type(sock) is not _Socket or self._debug:
            check_socket(sock, self._debug)
        while (data := syscalls.try_recv(sock, nbytes)) is None:
            await self._until_readable(sock)
        return data

    async def sock_recv_into(self, sock: socket.socket, buf: Any) -> int:
        """Receive into a writable buffer and return the number of bytes; 0 is the end of the stream. OSError."""
        check_socket(sock, self._debug)
        while (count := syscalls.try_recv_into(sock, buf)) is None:
            await self._until_readable(sock)
        return count

    async def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> tuple[bytes, Any]:
        """Receive a datagram, of which at most `bufsize` bytes are kept, and the address of its sender. OSError."""
        check_socket(sock, self._debug)
        while True:
            try:
                return sock.recvfrom(bufsize)
            except (BlockingIOError, InterruptedError):
                await self._until_readable(sock)

    async def sock_recvfrom_into(self, sock: socket.socket, buf: Any, nbytes: int = 0) -> tuple[int, Any]:
        """Receive a datagram into a writable buffer, at most `nbytes` if not 0; return its size and sender. OSError."""
        check_socket(sock, self._debug)
        if not nbytes:
            nbytes = len(buf)
        while True:
            try:
                return sock.recvfrom_into(buf, nbytes)
            except (BlockingIOError, InterruptedError):
                await self._until_readable(sock)

    async def sock_sendall(self, sock: socket.socket, data: Any) -> None:
        """Send all of a bytes-like object. After an OSError, or when cancelled, some of it may have been sent."""
        if type(sock) is not _Socket or self._debug:
            check_socket(sock, self._debug)
        sent = syscalls.try_send(sock, data)
        if sent == len(data) and type(data) is bytes:
            return
        with memoryview(data) as view, view.cast("B") as left:
            start = sent or 0
            while start < len(left):
                if sent is None:
                    await self._until_writable(sock)
                sent = syscalls.try_send(sock, left[start:])
                start += sent or 0

    async def sock_sendto(self, sock: socket.socket, data: Any, address: Any) -> int:
        """Send a datagram to an address and return the number of bytes. OSError."""
        check_socket(sock, self._debug)
        delay = _FIRST_RETRY
        while True:
            try:
                return sock.sendto(data, address)
            except (BlockingIOError, InterruptedError):
                if sock.family != AF_UNIX:
                    await self._until_writable(sock)
                    continue
            # It is the receiver whose queue is full; of one that we are not connected to the kernel tells nothing.
            await self._pause(delay)
            delay = min(2 * delay, _LAST_RETRY)

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        """Accept a connection; return its socket, non-blocking, and the address of the peer. OSError of accept(2)."""
        check_socket(sock, self._debug)
        while True:
            try:
                connection, address = sock.accept()
            except (BlockingIOError, InterruptedError):
                await self._until_readable(sock)
            else:
                connection.setblocking(False)
                return connection, address

    async def _pause(self, delay: float) -> None:
        """`asyncio.sleep()` that ends with the loop."""
        pause = self.create_future()
        self._pauses.add(pause)
        timer = self.call_later(delay, _wake, pause)
        try:
            await pause
        finally:
            timer.cancel()
            self._pauses.discard(pause)

    def _next_report(self, sock: Any, write: bool) -> asyncio.Future[None]:
        """The next event of a socket that `add_reader()` or `add_writer()` has; takes the place of one of its kind."""
        future = self.create_future()
        (self.add_writer if write else self.add_reader)(sock, _wake, future)
        watch: Any = self._poller.lookup(sock.fileno())
        handle = watch.writer if write else watch.reader
        future.add_done_callback(functools.partial(self._no_longer, write, watch, handle))
        return future

    def _no_longer(self, write: bool, watch: Watch, handle: Handle, future: asyncio.Future[None]) -> None:
        if watch.armed and not handle.cancelled():  # nobody has replaced it, and the number is still what it was
            (self.remove_writer if write else self.remove_reader)(watch.fd)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
