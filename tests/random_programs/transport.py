"""An end that is a transport: what the program can do to it, and what the transport may say."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from random_programs.model import SMALL, End
from random_programs.protocols import Buffered, Recorder, Streaming

FATAL = {"get_buffer", "data_received", "eof_received"}  # a transport ends when these fail


class Boom(Exception):
    """What the program raises in a callback."""


class TransportEnd(End):
    """A transport, the protocol it has at the moment, and what can be done to it."""

    is_transport = True

    def __init__(self, program: Any, number: int, keeps_open: bool, buffer_size: int | None) -> None:
        super().__init__(program, number)
        self.transport: Any = None
        self.made = False
        self.paused = False
        self.blocked = False  # pause_writing() was called
        self.no_more = False  # write_eof() was called, and a write() raises
        self.keeps_open = keeps_open
        self.failure: Boom | None = None  # for which the transport ended
        self.hooks: dict[str, list[Callable[[], Any]]] = {}  # what the program does in the next callback of that name
        self.booms: set[str] = set()  # in which it raises
        self.drains: list[tuple[Recorder, asyncio.Task[Any]]] = []
        self.writers: list[asyncio.StreamWriter] = []  # each warns when it goes before its transport is closed
        self.protocol = self.new_protocol(buffer_size)

    def new_protocol(self, buffer_size: int | None) -> Recorder:
        if buffer_size is None or self.program.kind == "pipe":
            return Streaming(self)
        return Buffered(self, buffer_size)

    # What it is told

    def told(self, protocol: Recorder, name: str) -> None:
        """Check what holds of every callback, and do what the program does in this one."""
        self.check(self.made, f"{name}() before connection_made()")
        self.check(not self.lost, f"{name}() after connection_lost()")
        self.check(protocol is self.protocol, f"{name}() of a protocol that was replaced")
        for do in self.hooks.pop(name, ()):
            do()
        if name in self.booms:
            self.booms.discard(name)
            boom = Boom(f"{self.name}, {name}()")
            self.program.raised.append(boom)
            if name in FATAL and self.program.kind != "pipe":
                self.broken = self.closed = True
                self.failure = boom
            raise boom

    def reading(self) -> bool:
        """Whether the protocol may be told of input."""
        after_close = not self.exact and self.program.kind == "tls"  # asyncio's flushes what it has received, too
        return not self.paused and (not self.closed or after_close)

    def paused_for_good(self) -> bool:
        return self.paused

    def check_reading(self, name: str) -> None:
        self.check(self.reading(), f"{name}() after pause_reading() or close()")

    def check_loss(self, exc: BaseException | None) -> None:
        """connection_lost() has a reason."""
        if isinstance(exc, Boom):
            self.check(exc is self.failure, f"connection_lost({exc!r})")
        elif exc is not None:
            self.check(isinstance(exc, OSError) and self.may_fail(), f"connection_lost({exc!r})")
        else:
            self.check(self.deaf() or self.closing or self.may_fail(), "connection_lost() without a reason")

    # What can be done to it

    def over(self) -> bool:
        """Whether to leave a transport alone: asyncio's fail in many ways after their end."""
        return not self.exact and (self.lost or self.transport.is_closing() or self.eof)

    def write(self, size: int, kind: str) -> None:
        """Write, and change what was written if that is possible."""
        if not self.writes or self.over():
            return
        if self.no_more:
            with contextlib.suppress(RuntimeError):
                self.transport.write(b"late")
                self.check(False, "write() after write_eof()")
            return
        data, spoil = self.in_kind(self.take(size, self.transport.is_closing()), kind)
        self.transport.write(data)
        spoil()

    def writelines(self, sizes: list[int], kind: str) -> None:
        if not self.writes or self.over():
            return
        if self.no_more:
            with contextlib.suppress(RuntimeError):
                self.transport.writelines([b"late"])
                self.check(False, "writelines() after write_eof()")
            return
        late = self.transport.is_closing()
        parts = [self.in_kind(self.take(size, late), kind) for size in sizes]
        # Of an empty line asyncio's socket transport never gets rid.
        self.transport.writelines([data for data, _ in parts if len(data) or self.exact])
        for _, spoil in parts:
            spoil()

    def in_kind(self, part: memoryview, kind: str) -> tuple[Any, Callable[[], None]]:
        """The bytes as a bytes-like object of some kind, and what changes that object."""
        if kind == "bytes" or not self.exact:  # asyncio keeps mutable ones for later
            return bytes(part), lambda: None
        array = bytearray(part)
        if kind == "bytearray":
            return array, array.clear
        view = memoryview(array)

        def spoil() -> None:
            view[:] = bytes(len(array))

        return view, spoil

    def pause(self) -> None:
        if self.reads and not self.over():
            self.transport.pause_reading()
            self.paused |= not self.transport.is_closing()

    def resume(self) -> None:
        if self.reads and not self.over():
            self.transport.resume_reading()
            self.paused &= self.transport.is_closing()

    def write_eof(self) -> None:
        if not self.writes or not self.transport.can_write_eof() or self.over():
            return
        late = self.transport.is_closing()
        try:
            self.transport.write_eof()
        except OSError:
            if self.exact or not self.may_fail():
                raise
        if not late:
            self.ended = True
            if self.program.kind == "pipe":
                self.closed = True
            else:
                self.no_more = True

    def close(self) -> None:
        if self.over():
            return
        self.ended |= not self.transport.is_closing()
        self.closed = True
        self.transport.close()
        self.check(self.transport.is_closing(), "not closing after close()")

    def abort(self) -> None:
        if not self.writes:  # asyncio's have no abort()
            self.close()
        elif not self.lost and (self.exact or self.program.kind != "pipe" or not self.transport.is_closing()):
            self.broken = self.closed = True
            self.transport.abort()
            self.check(self.transport.is_closing() or not self.exact, "not closing after abort()")

    def set_protocol(self, buffer_size: int | None) -> None:
        if self.lost or self.over():
            return
        self.protocol = self.new_protocol(buffer_size)
        self.transport.set_protocol(self.protocol)
        self.check(self.transport.get_protocol() is self.protocol, "another protocol than set")

    def limits(self, high: int | None, low: int | None) -> None:
        if not self.writes or self.over():
            return
        if not self.exact and self.program.kind == "tls" and not high:
            return  # asyncio's is above a high water mark of 0 with an empty buffer
        self.transport.set_write_buffer_limits(high, low)
        if high is None:
            high = 4 * low if low is not None else None
        if high is not None:
            expected = (high // 4 if low is None else low, high)
            self.check(self.transport.get_write_buffer_limits() == expected, f"limits are not {expected}")

    def drain(self) -> None:
        """Start a task that waits until the transport takes more."""
        if self.writes and not self.lost:
            writer = asyncio.StreamWriter(self.transport, self.protocol, None, self.program.loop)
            self.writers.append(writer)
            self.drains.append((self.protocol, self.program.loop.create_task(writer.drain())))

    def cancel(self) -> None:
        """Cancel what waits."""
        for _, task in self.drains:
            task.cancel()

    def cancel_all(self) -> None:
        """Before the end of the program: but those who drain() are told of the end."""

    def boom(self, name: str) -> None:
        self.booms.add(name)

    def let_go(self) -> None:
        """Close what is open still, and forget what refers to it."""
        if self.made and not self.lost:
            self.transport.abort() if self.writes else self.transport.close()
        self.cancel()
        self.hooks.clear()

    # What holds between the runs

    def look(self) -> None:
        """Check what the transport says of itself."""
        transport = self.transport
        if not self.exact and self.program.kind == "tls":
            return
        closing = transport.is_closing()
        self.check(closing or not (self.closed or self.closing or self.lost), "not closing")
        self.check(not closing or self.deaf() or self.closing or self.may_fail(), "closing without a reason")
        if self.reads:
            self.check(transport.is_reading() == (not closing and not self.paused), "is_reading() is wrong")
        if self.writes:
            size = transport.get_write_buffer_size()
            self.check(size >= 0, "less than nothing is buffered")
            self.check(not size or not self.lost, "something is buffered in a closed transport")
            if self.program.kind != "tls":
                self.check(size <= self.sent - self.other.got, f"{size} bytes are buffered, not all are missing")

    def look_after_run(self) -> None:
        """The loop has stopped: what the kernel takes has left."""
        self.look()
        # TCP keeps what was read until the peer's kernel acknowledges it, which may take its time.
        if self.program.kind in ("unix", "pipe") and self.writes and not self.lost and self.peak <= SMALL:
            self.check(self.transport.get_write_buffer_size() == 0, "the loop stopped with something unsent")

    def look_when_quiet(self) -> None:
        """Nothing moves any more: then flow control says what is so."""
        if not self.writes or self.transport.is_closing() or not self.exact:
            return
        size = self.transport.get_write_buffer_size()
        low, high = self.transport.get_write_buffer_limits()
        if self.blocked:
            self.check(size > low, f"still paused, with {size} bytes; the low water mark is {low}")
        else:
            self.check(size <= high, f"not paused, with {size} bytes; the high water mark is {high}")

    def look_at_end(self) -> None:
        """The connection is over."""
        self.check(self.made and self.lost, "no connection_lost()")
        if not self.broken and not self.closed and self.reads:
            self.check(self.eof or self.may_fail(), "lost without an end of the input")
        for protocol, task in self.drains:
            self.check(task.done() or protocol is not self.protocol, "drain() still waits")
            if not task.done():
                task.cancel()
            elif not task.cancelled():
                exc = task.exception()
                # What connection_lost() was called with, which may be the program's own.
                self.check(exc is None or (self.lost and isinstance(exc, (OSError, Boom))), f"drain() raised {exc!r}")
