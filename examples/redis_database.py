"""Strings by their keys, some of which expire. Part of redis_server.py."""

import heapq
import re
import time

DROPPED_AT_ONCE = 10_000


class Database:
    """Strings by their keys, some with a time at which they go: it is seen when they are asked for, and by a tick."""

    def __init__(self, clock=time.monotonic):
        self.values = {}
        self.clock = clock
        self.deadlines = {}
        self._queue = []  # a heap of (deadline, key), some of them out of date

    def find(self, key):
        """Return a value, or None."""
        deadline = self.deadlines.get(key)
        if deadline is not None and deadline <= self.clock():
            self.remove(key)
        return self.values.get(key)

    def remove(self, key):
        self.deadlines.pop(key, None)
        return self.values.pop(key, None)

    def drop_expired(self):
        """Remove what nobody has asked for since its time has come."""
        now = self.clock()
        for _ in range(DROPPED_AT_ONCE):
            if not self._queue or self._queue[0][0] > now:
                break
            deadline, key = heapq.heappop(self._queue)
            if self.deadlines.get(key) == deadline:
                self.remove(key)

    def expire_in(self, key, seconds):
        self.deadlines[key] = deadline = self.clock() + seconds
        heapq.heappush(self._queue, (deadline, key))
        if len(self._queue) > 2 * len(self.deadlines) + 100:
            self._queue = [(deadline, key) for key, deadline in self.deadlines.items()]
            heapq.heapify(self._queue)

    def keys(self, pattern):
        """Return the keys that match a pattern of Redis."""
        match = glob(pattern).fullmatch
        return [key for key in list(self.values) if match(key) and self.find(key) is not None]

    def clear(self):
        self.values.clear()
        self.deadlines.clear()
        self._queue.clear()


def glob(pattern):
    """Return a pattern of Redis as one of `re`."""
    out = []
    for part in re.findall(rb"\*+|\?|\[\^?(?:\\.|[^\]\\])*\]?|\\.|.", pattern, re.DOTALL):
        if part[:1] == b"*":
            out.append(b".*")
        elif part == b"?":
            out.append(b".")
        elif part[:1] == b"[":
            inverted = part[1:2] == b"^"
            inner = part[2:] if inverted else part[1:]
            out.append(_one_of(inner.removesuffix(b"]"), inverted))
        else:
            out.append(re.escape(part[-1:]))
    return re.compile(b"".join(out), re.DOTALL)


def _one_of(inner, inverted):
    chars = re.findall(rb"(\\.|.)-(\\.|.)|(\\.|.)", inner, re.DOTALL)
    ranges = [sorted((first[-1:], last[-1:])) if first else [one[-1:]] for first, last, one in chars]
    inner = b"".join(b"-".join(map(re.escape, ends)) for ends in ranges)
    if not inner:
        return b"." if inverted else b"(?!)"
    return b"[%b%b]" % (b"^" * inverted, inner)
