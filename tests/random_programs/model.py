"""The model: what one end of a connection may be told, and when, after what the program has done to both.

An end writes successive parts of a stream that both ends know, so that the other can tell what is missing, late or out
of place. `exact` is False where the loop is asyncio's own and it does not keep what is asserted otherwise.
"""

from typing import Any

import tls

LENGTH = 2 << 20  # bytes that an end can write
STREAMS = [memoryview(tls.pattern(LENGTH)), memoryview(tls.pattern(LENGTH, 1 << 30))]
SMALL, OVERHEAD = 2000, 300  # bytes that the kernel takes, however little room it was given; and for a write


class End:
    """What is known of one end, be it a transport or a plain socket."""

    is_transport = False

    def __init__(self, program: Any, number: int) -> None:
        self.program = program
        self.exact: bool = program.exact
        self.number = number
        self.name = f"end {number}"
        self.stream = STREAMS[number]
        self.other: End = self
        self.reads = self.writes = True  # a pipe has an end for each
        self.sent = 0  # bytes that were written
        self.due = 0  # bytes that were written before the end: the other end gets them all
        self.cuts = {0}  # what is written after close() gets there, or not: up to here
        self.peak = 0  # the most that was on its way since nothing was
        self.got = 0
        self.closed = False  # by the program: it hears no more than connection_lost()
        self.ended = False  # the program has said that no more comes
        self.broken = False  # aborted or failed: what was written may be lost
        self.eof = False  # it was told that no more comes
        self.closing = False  # because the other end has said that no more comes
        self.lost = False

    def __repr__(self) -> str:
        words = [word for word in ("closed", "ended", "broken", "eof", "closing", "lost") if getattr(self, word)]
        return f"<{self.name}: sent {self.sent}, due {self.due}, got {self.got} {' '.join(words)}>"

    def check(self, condition: Any, complaint: str) -> None:
        if not condition:
            self.program.complain(f"{self.name}: {complaint}")

    def will_end(self) -> bool:
        """Whether the other end is to hear that no more comes."""
        return self.ended or self.broken or self.lost or self.closed or self.closing

    def deaf(self) -> bool:
        """Whether nothing more can be told here."""
        return self.closed or self.eof or self.lost or self.broken

    def paused_for_good(self) -> bool:
        """Whether it was paused when it was too late to resume."""
        return False

    def unread(self) -> bool:
        """Whether something is on its way here, so that the kernel answers a close with a reset."""
        return self.got < self.other.sent

    def take(self, size: int, late: bool) -> memoryview:
        """The next part of the stream, which the program is about to write."""
        if self.sent == self.other.got:
            self.peak = 0
        size = min(size, LENGTH - self.sent)
        part = self.stream[self.sent : self.sent + size]
        self.sent += size
        # For each write the kernel needs some room besides: a Unix socket keeps them apart.
        self.peak = max(self.peak, self.sent - self.other.got) + OVERHEAD
        if not late:
            self.due = self.sent
            self.cuts = {self.sent}
        self.cuts.add(self.sent)
        return part

    def received(self, data: Any) -> None:
        """What came is what follows in the stream, and was written."""
        end = self.got + len(data)
        self.check(end <= self.other.sent, f"got {end} of {self.other.sent} bytes")
        self.check(self.other.stream[self.got : end] == data, f"other bytes than those from {self.got} to {end}")
        self.check(not self.eof, "data after the end")
        self.got = end

    def at_end(self) -> None:
        """No more comes: that has a reason, and nothing is missing."""
        other = self.other
        self.check(other.will_end(), "the end of a stream that goes on")
        if not other.broken:
            self.check(self.got >= other.due, f"the end after {self.got} of {other.due} bytes")
            self.check(self.got in other.cuts, f"the end after {self.got} bytes, in the middle of a late write")
        self.eof = True

    def may_fail(self) -> bool:
        """Whether the connection may end with an error of the system."""
        other = self.other
        if not self.exact and self.closed and self.program.kind == "tls":
            return True  # asyncio's complains of what comes after its goodbye
        return other.broken or ((other.closed or other.lost) and (other.unread() or not other.reads or not self.reads))
