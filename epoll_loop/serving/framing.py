"""Messages out of a stream: what `Events.framing` may be, so that `Events.data()` has a whole one each time.

A framing is called with bytes and a position, and returns the message that begins there and where it ends, or None if
it is not whole yet. `delimiter()` and `length_prefix()` make the usual ones; any function will do. ValueError says that
what comes is no such stream: the connection is closed, and `Events.closed()` has the exception.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from epoll_loop.transports.conn import Conn

Framing = Callable[[bytes, int], tuple[Any, int] | None]

_LIMIT = 65536


def delimiter(end: bytes, limit: int = _LIMIT) -> Framing:
    """Messages that end with some bytes, which they have not themselves. ValueError for one of more than `limit`."""
    if not end:
        raise ValueError("an empty delimiter")

    def split(data: bytes, start: int) -> tuple[bytes, int] | None:
        most = start + limit + len(end)
        at = data.find(end, start, most)
        if at >= 0:
            return data[start:at], at + len(end)
        if len(data) >= most:
            raise ValueError(f"a message of more than {limit} bytes")
        return None

    return split


def length_prefix(size: int = 4, byteorder: str = "big", limit: int = _LIMIT) -> Framing:
    """Messages with their length before them, a number of `size` bytes. ValueError for one of more than `limit`."""
    if byteorder not in ("big", "little") or size < 1:
        raise ValueError(f"a number of {size!r} bytes, {byteorder!r} endian")

    def split(data: bytes, start: int) -> tuple[bytes, int] | None:
        begin = start + size
        if len(data) < begin:
            return None
        length = int.from_bytes(data[start:begin], byteorder)  # type: ignore[arg-type]
        if length > limit:
            raise ValueError(f"a message of {length} bytes, where the limit is {limit}")
        end = begin + length
        return (data[begin:end], end) if len(data) >= end else None

    return split


class Framed:
    """In the place of `Events.data()`, for one connection."""

    __slots__ = ("_busy", "_data", "_split", "_start", "_whole")

    def __init__(self, data: Callable[[Conn, Any], Any], split: Framing) -> None:
        self._data = data
        self._split = split
        self._whole = b""  # what was received, of which the messages up to `_start` were delivered
        self._start = 0
        self._busy = False

    def __call__(self, conn: Conn, data: Any) -> Any:
        if not data:
            return self._data(conn, data)  # wake()
        self._whole = self.unused() + data
        self.go_on(conn)
        return None

    def go_on(self, conn: Conn) -> None:
        """Deliver the messages that are there, for as long as the peer takes the answers."""
        if self._busy:
            return  # a callback's answer has made room for more, and is one of those below
        self._busy = True
        try:
            while self._start < len(self._whole) and conn.is_open() and not conn.is_behind():
                try:
                    found = self._split(self._whole, self._start)
                    if found is not None and found[1] <= self._start:
                        raise ValueError(f"the framing found a message that ends where it begins, at {found[1]}")
                except ValueError as exc:
                    conn.close(exc)
                    return
                if found is None:
                    return
                message, self._start = found
                conn.answer(self._data(conn, message), "data")
        finally:
            self._busy = False

    def unused(self) -> bytes:
        """Take what was not delivered."""
        rest = self._whole[self._start :] if self._start else self._whole
        self._whole, self._start = b"", 0
        return rest
