"""Messages out of a stream: what `Events.framing` may be, so that `Events.data()` has a whole one each time.

A framing is called with bytes and a position, and returns the message that begins there and where it ends. If it is not
whole yet that is None; or how many bytes there have to be for it, so that a large one that comes in small parts is not
looked at, and copied, with each of them. `delimiter()` and `length_prefix()` make the usual ones; any function will do.
ValueError says that what comes is no such stream: the connection is closed, and `Events.closed()` has the exception.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from epoll_loop.transports.conn import Conn

Framing = Callable[[bytes, int], tuple[Any, int] | int | None]

_LIMIT = 65536
# Up to so many bytes of a message are copied and looked at again with each part that comes: that is faster.
_SMALL = 4096


def delimiter(end: bytes, limit: int = _LIMIT) -> Framing:
    """Messages that end with some bytes, which they have not themselves. ValueError for one of more than `limit`."""
    _check_limit(limit)
    if not isinstance(end, bytes):
        raise TypeError(f"a delimiter is bytes, not {end!r}")
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

    split.delimits = end, limit + len(end)  # type: ignore[attr-defined]  # when it is to be called again, see Framed
    return split


def length_prefix(size: int = 4, byteorder: str = "big", limit: int = _LIMIT) -> Framing:
    """Messages with their length before them, a number of `size` bytes. ValueError for one of more than `limit`."""
    _check_limit(limit)
    if byteorder not in ("big", "little") or type(size) is not int or size < 1:
        raise ValueError(f"a number of {size!r} bytes, {byteorder!r} endian")

    def split(data: bytes, start: int) -> tuple[bytes, int] | int:
        begin = start + size
        if len(data) < begin:
            return begin
        length = int.from_bytes(data[start:begin], byteorder)  # type: ignore[arg-type]
        if length > limit:
            raise ValueError(f"a message of {length} bytes, where the limit is {limit}")
        end = begin + length
        return (data[begin:end], end) if len(data) >= end else end

    return split


def _check_limit(limit: Any) -> None:
    if type(limit) is not int or limit < 0:
        raise ValueError(f"limit is a number of bytes, not {limit!r}")


class Framed:
    """In the place of `Events.data()`, for one connection."""

    __slots__ = ("_data", "_end", "_least", "_most", "_part", "_split", "_start", "_whole")

    def __init__(self, data: Callable[[Conn, Any], Any], split: Framing) -> None:
        self._data = data
        self._split = split
        delimits: tuple[bytes | None, int] = getattr(split, "delimits", (None, 0))
        self._end, self._most = delimits
        self._whole = b""  # what was received, of which the messages up to `_start` were delivered
        self._start = 0
        # Or else: the beginning of a large message, to which bytes are appended without a copy of the others. It is not
        # whole before there are `_least` of them, or `_end` has come.
        self._part = bytearray()
        self._least = 0

    def __call__(self, conn: Conn, data: Any) -> None:
        if type(data) is not bytes:
            data = bytes(data)  # memory that is used again
        if self._part:
            data = self._more(data)
        elif self._whole:
            data = self.unused() + data
        if data:
            self._whole = data
            self.go_on(conn)

    def _more(self, data: bytes) -> bytes:
        part = self._part
        searched = len(part)
        part += data
        if len(part) >= self._least or (self._end and part.find(self._end, max(0, searched - len(self._end) + 1)) >= 0):
            return self.unused()
        return b""

    def go_on(self, conn: Conn) -> bool:
        """Deliver the messages that are there, for as long as the peer takes the answers; return if there are more."""
        while self._start < len(self._whole):
            if not conn.is_open() or conn.is_behind():
                return True
            try:
                found = self._split(self._whole, self._start)
            except ValueError as exc:
                conn.close(exc)
                return False
            if not isinstance(found, tuple):
                self._keep(found)
                return False
            try:
                message, end = found
                if end <= self._start:
                    raise RuntimeError(f"the framing found a message that ends where it begins, at {end}")
            except (TypeError, ValueError):
                raise _wrong(found) from None
            self._start = end
            out = self._data(conn, message)
            if out is not None:
                conn.answer(out, "data")
        if self._start > len(self._whole):
            raise RuntimeError(f"the framing found a message that ends behind what has come, at {self._start}")
        self._whole, self._start = b"", 0
        return False

    def _keep(self, found: Any) -> None:
        """What is left is no whole message."""
        if found is None and self._end is not None:
            least = self._most
        elif isinstance(found, int):
            least = found - self._start
        elif found is None:
            return
        else:
            raise _wrong(found)
        if len(self._whole) - self._start > _SMALL:
            self._least = least
            self._part = bytearray(self.unused())

    def unused(self) -> bytes:
        """Take what was not delivered."""
        if self._part:
            rest, self._part = bytes(self._part), bytearray()
            return rest
        rest = self._whole[self._start :] if self._start else self._whole
        self._whole, self._start = b"", 0
        return rest


def _wrong(found: Any) -> TypeError:
    return TypeError(f"the framing returned {found!r}, which is not (message, end), a number of bytes, or None")
