"""ByteWriter: the queue of unsent bytes that the transports of streams and pipes share."""

from __future__ import annotations

import errno
from typing import Any

from epoll_loop.core import syscalls
from epoll_loop.transports.base import _oserror
from epoll_loop.transports.flow import WriteTransport

# More than this goes at once: bytes that lie in a queue keep nobody busy.
FLUSH_AT = 65536
_FLUSH_AT = FLUSH_AT
_EAGAIN = errno.EAGAIN


class ByteWriter(WriteTransport):
    """A transport that writes bytes, in order, all of them."""

    __slots__ = ("_first", "_offset", "_rest")

    def _prepare(self) -> None:
        WriteTransport._prepare(self)
        self._first: bytes | None = None  # of the queue of unsent writes; nearly always the only one
        self._offset = 0  # bytes of it that are sent already
        self._rest: list[bytes] | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, in order, without blocking: they are queued, and leave with this iteration.

        Takes all of it; a mutable buffer is copied. TypeError if it is not bytes-like, RuntimeError after
        `write_eof()` and while a `sendfile()` goes on.
        """
        if type(data) is not bytes:
            data = _as_bytes(data)
        if self._eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._empty_waiter is not None:
            raise RuntimeError("unable to write; sendfile is in progress")
        chunk = data
        if not chunk:
            return
        if self._lost:
            self._write_lost()
            return
        # As _append() does it: the call would cost the pure build an eighth of a write().
        if self._first is None:
            self._first = chunk
        elif self._rest is None:
            self._rest = [chunk]
        else:
            self._rest.append(chunk)
        self._size += len(chunk)
        if self.writable:
            if self._size < _FLUSH_AT:
                if not self._unflushed:
                    self._flush_later()
                return
            self._send()
        self._settle()

    def writelines(self, list_of_data: Any) -> None:
        """Send each of an iterable of bytes-like objects, in order. See `write()`."""
        chunks = [chunk for chunk in [_as_bytes(data) for data in list_of_data] if chunk]
        if not chunks or not self._takes():
            self.write(b"".join(chunks))  # which says what is wrong
            return
        # Nobody is called before all are queued: what pause_writing() writes, or its write_eof(), comes behind them.
        last = chunks.pop()
        for chunk in chunks:
            self._append(chunk)
        ByteWriter.write(self, last)

    def _append(self, chunk: bytes) -> None:
        if self._first is None:
            self._first = chunk
        elif self._rest is None:
            self._rest = [chunk]
        else:
            self._rest.append(chunk)
        self._size += len(chunk)

    def _takes(self) -> bool:
        """Return whether `write()` would queue what it is given."""
        return not self._eof and not self._lost and self._empty_waiter is None

    def _send(self) -> None:
        # One send, and no more: EAGAIN or a short write is the evidence that earns the next OUT edge (I17).
        sent = self._transfer()
        if sent == self._size:
            self._first = None
            self._rest = None
            self._offset = 0
            self._size = 0
        elif sent >= 0:
            self._consume(sent)
        elif sent == -_EAGAIN:
            self.writable = False
        else:
            self._write_failed(-sent)

    def _transfer(self) -> int:
        """Hand the queue to the kernel: the number of bytes that it took, or -errno."""
        if self._rest is None:
            return syscalls.send(self._sock, self.fd, self._first, self._offset)  # type: ignore[arg-type]
        return syscalls.sendmsg(self._sock, self.fd, self._first, self._offset, self._rest)  # type: ignore[arg-type]

    def _write_failed(self, number: int) -> None:
        self._fatal_error(_oserror(number), "Fatal write error on socket transport")

    def _consume(self, sent: int) -> None:
        self._size -= sent
        sent += self._offset
        rest = self._rest
        if rest is not None:
            rest.insert(0, self._first)  # type: ignore[arg-type]
            whole = 0
            while sent >= len(rest[whole]):
                sent -= len(rest[whole])
                whole += 1
            self._first = rest[whole]
            self._rest = rest[whole + 1 :] or None
        self._offset = sent
        if sent:  # short; else it may only have ended where sendmsg(2) has its limit, and the next one will tell
            self.writable = False

    def _discard(self) -> None:
        self._first = self._rest = None
        self._offset = self._size = 0


def _as_bytes(data: Any) -> bytes:
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
    return syscalls.copy_of(data)
