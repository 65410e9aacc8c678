"""`sendfile()` on transports and `sock_sendfile()` on sockets: sendfile(2) where it works, else read and write."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import stat
from asyncio import constants
from collections.abc import Awaitable, Callable
from typing import Any

from epoll_loop.core import syscalls
from epoll_loop.net.checks import check_socket
from epoll_loop.net.sockets import Sockets

# The most that one call takes: neither a fast peer nor a slow disk may stop the loop.
_BLOCK = 1 << 20
# Bound here: tools that look for blocking calls in coroutines replace that of `os`, and let asyncio's modules pass.
_sendfile: Callable[..., int] | None = getattr(os, "sendfile", None)
_READ_SIZE = 16384  # of the fallback on a transport; asyncio's number


class Sendfile(Sockets):
    """The senders of files."""

    __slots__ = ()

    async def sendfile(
        self, transport: Any, file: Any, offset: int = 0, count: int | None = None, *, fallback: bool = True
    ) -> int:
        """Send a file, opened in binary mode, behind what the transport has been given to write.

        From `offset` on, `count` bytes or up to its end; returns how many. The position of the file then tells how far
        it got, after an error and a cancellation too. Until then the transport reads nothing and refuses to write.
        SendfileNotAvailableError or RuntimeError for what sendfile(2) does not do if `fallback` is false, RuntimeError
        for other transports than streams, ConnectionError if the connection ends before the file. See
        `loop.sendfile()` of asyncio.
        """
        if transport.is_closing():
            raise RuntimeError("Transport is closing")
        mode = getattr(transport, "_sendfile_compatible", constants._SendfileMode.UNSUPPORTED)
        if mode is constants._SendfileMode.UNSUPPORTED:
            raise RuntimeError(f"sendfile is not supported for transport {transport!r}")
        if mode is constants._SendfileMode.TRY_NATIVE:
            try:
                return await self._sendfile_native(transport, file, offset, count)
            except asyncio.SendfileNotAvailableError:
                if not fallback:
                    raise
        if not fallback:
            raise RuntimeError(
                f"fallback is disabled and native sendfile is not supported for transport {transport!r}"
            )
        return await self._sendfile_fallback(transport, file, offset, count)

    async def sock_sendfile(
        self,
        sock: socket.socket,
        file: Any,
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool = True,
    ) -> int:
        """Send a file, opened in binary mode, through a connected stream socket. See `sendfile()`."""
        check_socket(sock, self._debug)
        if sock.type != socket.SOCK_STREAM:
            raise ValueError("only SOCK_STREAM type sockets are supported")
        _check_range(file, offset, count)
        try:
            return await self._sock_sendfile_native(sock, file, offset, count)
        except asyncio.SendfileNotAvailableError:
            if not fallback:
                raise
        return await self._sock_sendfile_fallback(sock, file, offset, count)

    # sendfile(2)

    async def _sendfile_native(self, transport: Any, file: Any, offset: int, count: int | None) -> int:
        _check_range(file, offset, count)
        _check_regular(file)
        if transport._empty_waiter is not None:
            raise RuntimeError("unable to sendfile; sendfile is in progress")
        if transport._eof:
            raise RuntimeError("Cannot call sendfile() after write_eof()")
        reading = transport.is_reading()
        transport.pause_reading()
        try:
            await transport._make_empty_waiter()
            _check_open(transport)
            return await _send_file(
                lambda: transport.fd, file, offset, count, functools.partial(_until_taken, transport)
            )
        finally:
            transport._empty_waiter = None
            if reading:
                transport.resume_reading()

    async def _sock_sendfile_native(self, sock: socket.socket, file: Any, offset: int, count: int | None) -> int:
        _check_regular(file)
        return await _send_file(sock.fileno, file, offset, count, functools.partial(self._until_sock_takes, sock))

    async def _until_sock_takes(self, sock: socket.socket, blocked: bool) -> None:
        await (self._until_writable(sock) if blocked else asyncio.sleep(0))

    # Reading and writing

    async def _sendfile_fallback(self, transport: Any, file: Any, offset: int, count: int | None) -> int:
        stand_in = StandIn(transport)
        sent = 0
        try:
            buffer = _start(file, offset, count, _READ_SIZE)
            while data := await self._read(file, buffer, count, sent):
                await stand_in.drain()
                transport.write(bytes(data))  # a copy: the buffer is filled again before all of it has left
                sent += len(data)
            await stand_in.drain()
            return sent
        finally:
            _leave_at(file, offset + sent)
            stand_in.restore()

    async def _sock_sendfile_fallback(self, sock: socket.socket, file: Any, offset: int, count: int | None) -> int:
        sent = 0
        try:
            buffer = _start(file, offset, count, constants.SENDFILE_FALLBACK_READBUFFER_SIZE)
            while data := await self._read(file, buffer, count, sent):
                while data:  # and not sock_sendall(): that does not tell how far it got
                    taken = syscalls.try_send(sock, data)
                    if taken is None:
                        await self._until_writable(sock)
                    else:
                        sent += taken
                        data = data[taken:]
            return sent
        finally:
            _leave_at(file, offset + sent)

    async def _read(self, file: Any, buffer: memoryview, count: int | None, sent: int) -> memoryview:
        part = buffer[: count - sent] if count else buffer
        size = await self.run_in_executor(None, file.readinto, part) if part else 0  # type: ignore[attr-defined]
        return part[: size or 0]


class StandIn(asyncio.Protocol):
    """The protocol of a transport while a file is written to it: passes the end of the connection on, and waits."""

    def __init__(self, transport: Any) -> None:
        if not hasattr(transport, "_protocol_paused"):
            raise TypeError("transport should be _FlowControlMixin instance")
        self._transport = transport
        self._protocol = transport.get_protocol()
        self._reading = transport.is_reading()
        self._paused = transport._protocol_paused  # as the protocol knows it
        self._lost = False
        self._error: BaseException | None = None
        self._resumed: asyncio.Future[None] | None = None
        transport.pause_reading()
        transport.set_protocol(self)

    async def drain(self) -> None:
        """Wait while writing is paused. ConnectionError, or what the connection was lost with, if it has ended."""
        if self._transport._protocol_paused and not self._transport.is_closing():
            self._resumed = asyncio.get_running_loop().create_future()
            await self._resumed
        if self._error is not None:
            raise self._error
        if self._transport.is_closing():
            raise ConnectionError("Connection closed by peer")

    def restore(self) -> None:
        """Give the transport back to its protocol, which is told of what has changed."""
        transport = self._transport
        if self._lost or transport.get_protocol() is not self:
            return
        transport.set_protocol(self._protocol)
        if self._reading:
            transport.resume_reading()
        if transport._protocol_paused != self._paused:
            if self._paused:
                self._protocol.resume_writing()
            else:
                self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._lost = True
        self._error = exc
        self.resume_writing()
        self._protocol.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        raise RuntimeError("Invalid state: reading should be paused")

    def eof_received(self) -> None:
        raise RuntimeError("Invalid state: reading should be paused")


async def _send_file(
    fileno: Callable[[], int], file: Any, offset: int, count: int | None, until_taken: Callable[[bool], Awaitable[None]]
) -> int:
    """Send with sendfile(2), to the descriptor that `fileno()` returns, which may change while this waits."""
    assert _sendfile is not None  # _check_regular()
    sent = 0
    try:
        while count is None or sent < count:
            size = _BLOCK if count is None else min(count - sent, _BLOCK)
            try:
                taken = _sendfile(fileno(), file.fileno(), offset + sent, size)
            except BlockingIOError:
                await until_taken(True)
                continue
            except ConnectionError:
                raise
            except OSError as exc:
                if sent:
                    raise
                # Of a file that sendfile(2) does not do, most often.
                raise asyncio.SendfileNotAvailableError("os.sendfile call failed") from exc
            if not taken:
                break
            sent += taken
            if taken == _BLOCK:
                await until_taken(False)
        return sent
    finally:
        _leave_at(file, offset + sent)


async def _until_taken(transport: Any, blocked: bool) -> None:
    await (transport._make_empty_waiter(True) if blocked else asyncio.sleep(0))
    _check_open(transport)


def _check_open(transport: Any) -> None:
    if transport.is_closing():
        raise ConnectionError("Connection closed by peer")


def _check_regular(file: Any) -> None:
    """SendfileNotAvailableError for what sendfile(2) is not even tried with."""
    if _sendfile is None:
        raise asyncio.SendfileNotAvailableError("os.sendfile() is not available")
    try:
        regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except (AttributeError, OSError):  # io.UnsupportedOperation is one
        regular = False
    if not regular:
        raise asyncio.SendfileNotAvailableError("not a regular file")


def _check_range(file: Any, offset: Any, count: Any) -> None:
    """ValueError or TypeError, in asyncio's words, for a text file and for what is no part of a file."""
    if "b" not in getattr(file, "mode", "b"):
        raise ValueError("file should be opened in binary mode")
    if count is not None:
        _check_number(count, 1, "count must be a positive integer")
    _check_number(offset, 0, "offset must be a non-negative integer")


def _check_number(number: Any, least: int, message: str) -> None:
    if not isinstance(number, int):
        raise TypeError(f"{message} (got {number!r})")
    if number < least:
        raise ValueError(f"{message} (got {number!r})")


def _start(file: Any, offset: int, count: int | None, size: int) -> memoryview:
    """Go to where the reading starts, and return a buffer for it."""
    if offset or _has_position(file):
        file.seek(offset)
    return memoryview(bytearray(min(count, size) if count else size))


def _leave_at(file: Any, position: int) -> None:
    """Let the position of the file say how much of it was sent."""
    if _has_position(file):
        file.seek(position)


def _has_position(file: Any) -> bool:
    if not hasattr(file, "seek") or getattr(file, "closed", False):
        return False
    return not hasattr(file, "seekable") or file.seekable()
