"""Messages between the parent and a worker process, some with a socket, over a pair of Unix sockets."""

from __future__ import annotations

import array
import collections
import contextlib
import enum
import socket
import struct
from collections.abc import Callable
from typing import Any

# The kind, a number, and how many bytes follow.
_HEADER = struct.Struct("!BII")
# Messages that are read before the loop has its turn again.
_BUDGET = 64
# Of those that wait here, besides what the kernel has taken: a worker with more is behind the others.
_MANY = 256
# Seconds before another try when the kernel can not take one: too many sockets are under way (see ETOOMANYREFS of
# unix(7)), or it is short of memory.
_RETRY = 0.05
# Seconds that the end waits for the other side to take what is queued.
_LAST = 1.0

_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Kind(enum.IntEnum):
    """What a message says."""

    ACCEPTED = 0
    """To a worker: a connection, to the address of this number."""
    DRAIN = 1
    """To a worker: end, with what is queued."""
    READY = 2
    """To the parent: it serves."""
    RELEASED = 3
    """To the parent: so many connections are not served any more."""
    SHUTDOWN = 4
    """To the parent: the whole server is to end."""
    LEAVES = 5
    """To the parent: it wants no more connections, and is to be told to end after the last."""
    FAILED = 6
    """To the parent: a pickled exception."""


class Messages:
    """One end. `received(kind, number, payload, sock)` is called for each message, `lost()` at the end of the other.

    A message goes out in one piece, and is read by its size, so that a socket comes with its own message.
    """

    def __init__(self, loop: Any, sock: socket.socket, drained: Callable[[], None] = lambda: None) -> None:
        self._loop = loop
        self._sock = sock
        self._drained = drained
        self._queue: collections.deque[tuple[bytes, socket.socket | None]] = collections.deque()
        self._waits = False  # for the kernel to take more
        self._input = b""
        self._size = _HEADER.size
        self._fds: list[int] = []
        sock.setblocking(False)

    def start(
        self, received: Callable[[Kind, int, bytes, socket.socket | None], None], lost: Callable[[], None]
    ) -> None:
        """Read from now on."""
        self._received, self._lost = received, lost
        self._loop.add_reader(self._sock, self.read)

    def send(self, kind: Kind, number: int = 0, payload: bytes = b"", sock: socket.socket | None = None) -> None:
        """Send a message; the socket belongs to the other side from now on, unless `unsent()` returns it."""
        self._queue.append((_HEADER.pack(kind, number, len(payload)) + payload, sock))
        if not self._waits:
            self._flush()

    def is_behind(self) -> bool:
        """Return whether many messages wait for the other side to take them."""
        return len(self._queue) >= _MANY

    def _flush(self) -> None:
        while self._queue:
            data, sock = self._queue[0]
            try:
                count = self._send(data, sock)
            except BlockingIOError:
                self._waits = True
                self._loop.add_writer(self._sock, self._go_on)
                return
            except OSError:  # or the other side is gone, which read() is told too, and closes this one
                self._waits = True
                self._loop.call_later(_RETRY, self._go_on)
                return
            if sock is not None:
                sock.close()
            if count < len(data):
                self._queue[0] = data[count:], None
            else:
                self._queue.popleft()

    def _go_on(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_writer(self._sock)
            self._waits = False
            self._flush()
            if not self._queue:
                self._drained()

    def _send(self, data: bytes, sock: socket.socket | None) -> int:
        if sock is None:
            return self._sock.send(data)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [sock.fileno()]))
        return self._sock.sendmsg([data], [rights])

    def read(self) -> bool:
        """Read what has come, and return whether there may be more."""
        for _ in range(_BUDGET):
            if self._sock.fileno() < 0:
                return False
            try:
                data, fds, _, _ = socket.recv_fds(self._sock, self._size - len(self._input), 1, _CLOEXEC)
            except BlockingIOError:
                return False
            except OSError:
                data, fds = b"", []
            if not data:
                self._close()
                self._lost()
                return False
            self._input += data
            self._fds += fds
            if len(self._input) == _HEADER.size:
                self._size += _HEADER.unpack(self._input)[2]
            if len(self._input) == self._size:
                self._whole()
        return True

    def _whole(self) -> None:
        kind, number, _ = _HEADER.unpack_from(self._input)
        payload = self._input[_HEADER.size :]
        self._input, self._size = b"", _HEADER.size
        # Where no number was free for it, the kernel has closed it.
        sock = socket.socket(fileno=self._fds.pop()) if self._fds else None
        self._received(Kind(kind), number, payload, sock)

    def finish(self) -> None:
        """Send what is queued, waiting for it, and close."""
        if self._sock.fileno() >= 0:
            self._sock.settimeout(_LAST)
            with contextlib.suppress(OSError):
                for data, _ in self._queue:
                    self._sock.sendall(data)
        self.close()

    def close(self) -> None:
        """Close it, and the sockets that wait. Calling it again has no effect."""
        for _, sock in self.unsent():
            sock.close()
        self._close()

    def _close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()

    def unsent(self) -> list[tuple[int, socket.socket]]:
        """Return the sockets that wait, each with the number of its message, and do not send them."""
        # Of a message that has begun the socket is gone: the rest of it has to follow.
        unsent = [(_HEADER.unpack_from(data)[1], sock) for data, sock in self._queue if sock is not None]
        self._queue = collections.deque(message for message in self._queue if message[1] is None)
        return unsent
