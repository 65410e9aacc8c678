"""Protocols that tell their end of every call, and check what is to be known there."""

import asyncio
from typing import Any


class Recorder(asyncio.streams.FlowControlMixin):
    """A protocol that tells its end of every call. The mixin is what StreamWriter.drain() waits in."""

    def __init__(self, end: Any) -> None:
        super().__init__(loop=end.program.loop)
        self.end = end
        self.told_of_eof = self.told_to_pause = False

    def connection_made(self, transport: Any) -> None:
        self.end.check(not self.end.made, "connection_made() twice")
        self.end.made = True
        self.end.transport = transport
        self.end.told(self, "connection_made")

    def eof_received(self) -> Any:
        self.end.check(not self.told_of_eof, "eof_received() twice")
        # With a pipe it is scheduled, and what was scheduled before may close; asyncio's TLS tells after its goodbye.
        if self.end.program.kind != "pipe" and (self.end.exact or self.end.program.kind != "tls"):
            self.end.check_reading("eof_received")
        self.told_of_eof = True
        self.end.at_end()
        self.end.told(self, "eof_received")
        if not self.end.keeps_open:
            self.end.closing = True
        return self.end.keeps_open

    def pause_writing(self) -> None:
        super().pause_writing()
        self.told_to_pause = True
        end = self.end
        end.check(not end.blocked, "pause_writing() twice")
        end.blocked = True
        size, high = end.transport.get_write_buffer_size(), end.transport.get_write_buffer_limits()[1]
        end.check(size > high or (not end.exact and size == high), f"pause_writing() at {size} of {high} bytes")
        end.told(self, "pause_writing")

    def resume_writing(self) -> None:
        if self.told_to_pause:  # and not the protocol before it
            super().resume_writing()
        end = self.end
        end.check(end.blocked, "resume_writing() without pause_writing()")
        end.blocked = False
        size, low = end.transport.get_write_buffer_size(), end.transport.get_write_buffer_limits()[0]
        end.check(size <= low, f"resume_writing() at {size} of {low} bytes")
        end.told(self, "resume_writing")

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)  # type: ignore[arg-type]
        end = self.end
        end.check_loss(exc)
        try:
            end.told(self, "connection_lost")
        finally:
            end.lost = True
            end.broken |= exc is not None


class Streaming(Recorder, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        self.end.check(type(data) is bytes and data, f"data_received({data!r})")
        self.end.check_reading("data_received")
        self.end.received(data)
        self.end.told(self, "data_received")


class Buffered(Recorder, asyncio.BufferedProtocol):
    def __init__(self, end: Any, size: int) -> None:
        super().__init__(end)
        self.buffer = memoryview(bytearray(size))

    def get_buffer(self, hint: int) -> Any:
        self.end.check_reading("get_buffer")
        self.end.told(self, "get_buffer")
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        self.end.check(0 < count <= len(self.buffer), f"buffer_updated({count}) of {len(self.buffer)} bytes")
        self.end.check_reading("buffer_updated")
        self.end.received(self.buffer[:count])
        self.end.told(self, "data_received")
