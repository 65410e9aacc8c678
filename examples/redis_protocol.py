"""Redis' protocol: commands out of a stream of bytes, and replies in RESP2. Part of redis_server.py.

https://redis.io/docs/latest/develop/reference/protocol-spec/ describes it; limits and errors are those of Redis.
"""

import re

WORDS_LIMIT = 1024 * 1024
SIZE_LIMIT = 512 * 1024 * 1024
LINE_LIMIT = 64 * 1024

OK = b"+OK\r\n"
NIL = b"$-1\r\n"
INTEGER = re.compile(rb"0|-?[1-9]\d{0,18}")

# The lines before a command and before its words, as nearly all are: so a number need not be made of them.
_LINES = {b"*%d" % count: 2 * count + 1 for count in range(1, 1024)}
_SIZES = [b"$%d" % size for size in range(4096)]

_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}
_WORD = re.compile(rb"""\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s"']+))(?=\s|$)""", re.DOTALL)


def integer(number):
    return b":%d\r\n" % number


def bulk(value):
    return b"$%d\r\n%b\r\n" % (len(value), value)


def array(replies):
    return b"*%d\r\n%b" % (len(replies), b"".join(replies))


def error(text):
    return b"-%b\r\n" % text.replace("\r", " ").replace("\n", " ").encode("utf-8", "surrogateescape")


class ProtocolError(Exception):
    """After that it is not known where the next command begins."""


class CommandStream:
    """The commands of one connection: lists of words. What is not whole is kept until it is."""

    __slots__ = ("_left", "_missing", "_pieces", "_words", "wrong")

    def __init__(self):
        self._pieces = []
        self._missing = 0  # so many bytes, at least, have to come before another look at the pieces
        self._words = []  # of a command that has begun,
        self._left = 0  # and how many are still to come
        self.wrong = None
        """The `ProtocolError` that has ended the stream."""

    def feed(self, data):
        """Return the commands that are whole with these bytes."""
        if self._pieces:
            self._pieces.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return []
            data = b"".join(self._pieces)
            self._pieces = []
        commands = []
        start = 0 if self._left else self._read_lines(data, commands)
        if start < len(data):
            try:
                start = self._read(data, start, commands)
            except ProtocolError as exc:
                self.wrong = exc
            if start < len(data):
                self._pieces.append(data[start:])
        return commands

    def _read_lines(self, data, commands):
        """The quick way: all is cut into lines at once. It takes commands as long as no word of theirs has a line end
        in it, and returns where the first other one begins."""
        lines = data.split(b"\r\n")
        last = len(lines) - 1  # the beginning of a line
        at = 0
        try:
            while at < last:
                end = at + _LINES[lines[at]]
                words = lines[at + 2 : end : 2]
                if end > last or lines[at + 1 : end : 2] != [_SIZES[len(word)] for word in words]:
                    break
                commands.append(words)
                at = end
        except LookupError:
            pass
        return len(data) - len(b"\r\n".join(lines[at:]))

    def _read(self, data, start, commands):
        """The exact way, for anything. Returns what it has got to."""
        self._missing = 1
        while start < len(data):
            if not self._left and data[start] != ord("*"):
                end = data.find(b"\n", start, start + LINE_LIMIT)
                if end < 0:
                    return self._unended(data, start, "inline request")
                if words := _inline(data[start:end]):
                    commands.append(words)
                start = end + 1
                continue
            end = data.find(b"\r\n", start, start + LINE_LIMIT)
            if end < 0:
                return self._unended(data, start, "bulk count string" if self._left else "mbulk count string")
            if not self._left:
                self._left = max(0, _number(data[start + 1 : end], "multibulk", WORDS_LIMIT))
                self._words = []
                start = end + 2
                continue
            if data[start] != ord("$"):
                raise ProtocolError(f"expected '$', got '{chr(data[start])}'")
            size = _number(data[start + 1 : end], "bulk", SIZE_LIMIT)
            if size < 0:
                raise ProtocolError("invalid bulk length")
            begin = end + 2
            self._missing = begin + size + 2 - len(data)
            if self._missing > 0:
                return start
            self._missing = 1
            self._words.append(data[begin : begin + size])
            start = begin + size + 2
            self._left -= 1
            if not self._left:
                commands.append(self._words)
        return start

    def _unended(self, data, start, what):
        if len(data) - start >= LINE_LIMIT:
            raise ProtocolError(f"too big {what}")
        return start


def _number(text, what, limit):
    if not INTEGER.fullmatch(text) or int(text) > limit:
        raise ProtocolError(f"invalid {what} length")
    return int(text)


def _inline(line):
    """The words of a line that somebody has typed, some of them quoted."""
    line = line.strip()
    words = []
    at = 0
    while at < len(line):
        word = _WORD.match(line, at)
        if word is None:
            raise ProtocolError("unbalanced quotes in request")
        double, single, plain = word.groups()
        if double is not None:
            words.append(re.sub(rb"\\(?:x([0-9a-fA-F]{2})|(.))", _unescape, double, flags=re.DOTALL))
        else:
            words.append(plain if single is None else single.replace(rb"\'", b"'"))
        at = word.end()
    return words


def _unescape(escape):
    return bytes.fromhex(escape[1].decode()) if escape[1] else _ESCAPES.get(escape[2], escape[2])
