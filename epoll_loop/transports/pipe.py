"""The transports of one end of a pipe, a FIFO or a socket, and of character devices such as terminals.

How these differ from a stream socket:
- A short read is no proof that nothing is left: a terminal hands out a line at a time, a pipe whose writer has chosen
  packet mode (O_DIRECT of pipe(2)) a packet. Nor can a read in vain tell, by EAGAIN: whoever shares a terminal or a
  standard stream with us may have made it blocking again. So after each read poll(2) is asked what is left (I13).
- epoll(7) refuses some devices with EPERM, such as /dev/null: they are always ready.
- A terminal is read and written through one descriptor, and an epoll set has a number only once. The transport that
  comes second works on a duplicate.
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
import stat
from asyncio.log import logger
from typing import TYPE_CHECKING, Any

from epoll_loop.core import syscalls
from epoll_loop.transports.base import Transport, _oserror, open_transport
from epoll_loop.transports.flow import _WARN_AT
from epoll_loop.transports.writer import ByteWriter, _as_bytes

if TYPE_CHECKING:
    from epoll_loop.core.reactor import Reactor

_EAGAIN = errno.EAGAIN
_EBADF = errno.EBADF


class PipeReadTransport(Transport):
    """The transport of `connect_read_pipe()`. See `asyncio.ReadTransport`."""

    __slots__ = ()

    def __init__(self, loop: Reactor, pipe: Any, fd: int) -> None:
        self._set_up(loop, pipe, fd, None, syscalls.copy_context(), None)
        self._extra = {"pipe": pipe}

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return asyncio.ReadTransport

    def _register(self) -> None:
        _register_pipe(self)

    def turn(self) -> None:
        self.queued = False
        if not self._reading or not self.readable or not self.armed:
            return
        if _was_closed(self):
            self._read_failed(_EBADF)
            return
        data = syscalls.read(self.fd)
        if isinstance(data, int):
            self._read_failed(-data)
            return
        chunk = data
        if not chunk:
            self._end_of_file()
            return
        # The bookkeeping comes before the protocol's turn, as in a stream (I16).
        if syscalls.has_input(self.fd):
            self.carry_over()
        else:
            self.readable = False
        syscalls.call1(self._context, self._protocol.data_received, chunk)

    def failed(self, exc: BaseException) -> None:
        self._report(exc, "Exception in protocol.data_received()")

    def _read_failed(self, number: int) -> None:
        if number == _EAGAIN:
            self.readable = False
        elif number == errno.EIO:  # how the end of a terminal looks
            self._fatal_error(_oserror(number), "Fatal read error on pipe transport")
        else:
            exc = _oserror(number)
            self._report(exc, "Fatal read error on pipe transport")
            self._force_close(exc)

    def _end_of_file(self) -> None:
        self._closing = True
        self._reading = False
        self._loop.call_soon(self._call_eof_received, context=self._context)
        self._lose(None)

    def _call_eof_received(self) -> None:
        self._protocol.eof_received()

    def _activity(self) -> str:
        return "read=polling" if self._reading else "read=idle"


class PipeWriteTransport(ByteWriter):
    """The transport of `connect_write_pipe()`. See `asyncio.WriteTransport`."""

    __slots__ = ("_device",)

    def __init__(self, loop: Reactor, pipe: Any, fd: int, device: bool) -> None:
        self._set_up(loop, pipe, fd, None, syscalls.copy_context(), None)
        self._extra = {"pipe": pipe}
        self._device = device  # a character device: it may hang up and be there again

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return asyncio.Transport  # asyncio's is one too

    def _register(self) -> None:
        _register_pipe(self)

    def turn(self) -> None:
        self.queued = False
        if not self.armed:
            return
        if self.ended and not self._device and syscalls.hung_up(self.fd):  # nobody reads any more
            self._force_close(_oserror(errno.EPIPE) if self._size else None)
        elif self._size and self.writable and not self._unflushed:
            self.flush()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write bytes, in order, without blocking: they are queued, and leave with this iteration.

        Takes all of it; a mutable buffer is copied. TypeError if it is not bytes-like. After `write_eof()`, `close()`
        and the end of the reader it goes nowhere.
        """
        if not self._closing:
            ByteWriter.write(self, data)
            if self._size and self.writable and self._loop._thread_id is None:
                # A loop that does not run has no end of the iteration, and the one at the other end of a pipe is
                # another program.
                self._send()
                self._settle()
        elif _as_bytes(data):
            self._write_lost()

    def _takes(self) -> bool:
        return not self._closing and ByteWriter._takes(self)

    def _write_lost(self) -> None:
        self._writes_lost += 1
        if self._writes_lost >= _WARN_AT:
            logger.warning("pipe closed by peer or os.write(pipe, data) raised exception.")

    def _send(self) -> None:
        ByteWriter._send(self)
        if not self.edge:
            self.writable = True  # whatever the send says: see Poller.keep()

    def _transfer(self) -> int:
        if _was_closed(self):
            return -_EBADF
        if self._rest is None:
            return syscalls.write(self.fd, self._first, self._offset)  # type: ignore[arg-type]
        return syscalls.writev(self.fd, self._first, self._offset, self._rest)  # type: ignore[arg-type]

    def _write_failed(self, number: int) -> None:
        self._fatal_error(_oserror(number), "Fatal write error on pipe transport")

    def can_write_eof(self) -> bool:
        """Return True: the reader sees the end when the pipe is closed."""
        return True

    def write_eof(self) -> None:
        """Write what is queued and close: the only end that a pipe has."""
        self.close()

    def _activity(self) -> str:
        return f"write=<{'polling' if self._size else 'idle'}, bufsize={self._size}>"


def open_read_pipe(loop: Reactor, pipe: Any, protocol: Any) -> PipeReadTransport:
    """Return the transport that reads from a file object; `connection_made()` has been called.

    The descriptor is made non-blocking. ValueError for regular files and the like, OSError if it can not be
    registered; the file is left open then.
    """
    fd = pipe.fileno()
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
        raise ValueError("Pipe transport is for pipes/sockets only.")
    transport = PipeReadTransport(loop, pipe, fd)
    open_transport(transport, protocol)
    return transport


def open_write_pipe(loop: Reactor, pipe: Any, protocol: Any) -> PipeWriteTransport:
    """Return the transport that writes to a file object; `connection_made()` has been called.

    The descriptor is made non-blocking. ValueError for regular files and the like, OSError if it can not be
    registered; the file is left open then.
    """
    fd = pipe.fileno()
    mode = os.fstat(fd).st_mode
    device = stat.S_ISCHR(mode)
    if not (device or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        raise ValueError("Pipe transport is only for pipes, sockets and character devices")
    transport = PipeWriteTransport(loop, pipe, fd, device)
    open_transport(transport, protocol)
    return transport


def _register_pipe(transport: Transport) -> None:
    poller = transport._loop._poller
    os.set_blocking(transport.fd, False)
    try:
        poller.add(transport, True)
    except PermissionError:
        poller.keep(transport)
        transport.readable = True
        transport.carry_over()
    except FileExistsError:
        transport._hold = io.FileIO(os.dup(transport.fd))
        transport.fd = transport._hold.fileno()
        poller.add(transport, True)


def _was_closed(transport: Transport) -> bool:
    """Return True if somebody has closed the file object: the number may be another file's by now."""
    if transport._hold is not None:
        return False
    try:
        return transport._sock.fileno() != transport.fd  # type: ignore[no-any-return]
    except ValueError:
        return True
