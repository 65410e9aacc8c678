"""Some of Redis' commands, with its errors, on a dictionary. Part of redis_server.py.

A command is a method that takes words and returns a reply; how many words it takes is seen by its parameters.
"""

import heapq
import inspect
import re
import sys
import time

from redis_protocol import INTEGER, OK, array, bulk, error, integer

LAST = 2**63 - 1  # the largest integer that Redis knows
DROPPED_AT_ONCE = 10_000

COMMANDS = {}
"""By their names: the function, and how many words there are at least and at most, with the name."""


class CommandError(Exception):
    """A command that can not be done, in the words of Redis."""


class QuitError(Exception):
    """The client wants no more."""


NOT_AN_INTEGER = "ERR value is not an integer or out of range"
SYNTAX = "ERR syntax error"


def command(*names):
    """Make a method the command of these names."""

    def add(function):
        kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
        least = kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD)  # with self, in the place of the name
        most = sys.maxsize if inspect.Parameter.VAR_POSITIONAL in kinds else least
        for name in names:
            COMMANDS[name.encode()] = COMMANDS[name.lower().encode()] = function, least, most
        return function

    return add


def text_of(word):
    """Return as much of a word as there is room for in an error."""
    return word[:128].decode("utf-8", "surrogateescape")


def refuse(words):
    """Reply to a command that there is not, or not with so many words."""
    name = text_of(words[0])
    if words[0].upper() in COMMANDS:
        return error(f"ERR wrong number of arguments for '{name.lower()}' command")
    rest = "".join(f"'{text_of(word)}' " for word in words[1:21])
    return error(f"ERR unknown command '{name}', with args beginning with: {rest}")


def number(text):
    """Return the integer that a word is."""
    if not INTEGER.fullmatch(text) or not -LAST - 1 <= int(text) <= LAST:
        raise CommandError(NOT_AN_INTEGER)
    return int(text)


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


class Database:
    """Strings by their keys, some with a time at which they go: noticed when they are asked for, and by a tick."""

    def __init__(self, clock=time.monotonic):
        self.values = {}
        self._clock = clock
        self._deadlines = {}
        self._queue = []  # a heap of (deadline, key), some of them out of date

    def find(self, key):
        """Return a value, or None."""
        deadline = self._deadlines.get(key)
        if deadline is not None and deadline <= self._clock():
            self.remove(key)
        return self.values.get(key)

    def remove(self, key):
        self._deadlines.pop(key, None)
        return self.values.pop(key, None)

    def drop_expired(self):
        """Remove what nobody has asked for since its time has come."""
        now = self._clock()
        for _ in range(DROPPED_AT_ONCE):
            if not self._queue or self._queue[0][0] > now:
                break
            deadline, key = heapq.heappop(self._queue)
            if self._deadlines.get(key) == deadline:
                self.remove(key)

    def _expire_in(self, key, seconds):
        self._deadlines[key] = deadline = self._clock() + seconds
        heapq.heappush(self._queue, (deadline, key))
        if len(self._queue) > 2 * len(self._deadlines) + 100:
            self._queue = [(deadline, key) for key, deadline in self._deadlines.items()]
            heapq.heapify(self._queue)

    # Strings

    @command("GET")
    def get(self, key):
        return bulk(self.find(key))

    @command("SET")
    def set(self, key, value, *options):
        seconds = condition = None
        keep = False
        if options:
            seconds, condition, keep = self._set_options(options)
            if condition is not None and (self.find(key) is None) != (condition == b"NX"):
                return bulk(None)
        self.values[key] = value
        if seconds is not None:
            self._expire_in(key, seconds)
        elif not keep and self._deadlines:
            self._deadlines.pop(key, None)
        return OK

    def _set_options(self, options):
        seconds = condition = None
        keep = False
        words = iter(options)
        for word in words:
            option = word.upper()
            if option in (b"NX", b"XX") and condition in (None, option):
                condition = option
            elif option == b"KEEPTTL" and seconds is None:
                keep = True
            elif option in (b"EX", b"PX") and seconds is None and not keep:
                text = next(words, None)
                if text is None:
                    raise CommandError(SYNTAX)
                amount = number(text)
                if not 0 < amount <= LAST // (1000 if option == b"EX" else 1):
                    raise CommandError("ERR invalid expire time in 'set' command")
                seconds = amount if option == b"EX" else amount / 1000
            else:
                raise CommandError(SYNTAX)
        return seconds, condition, keep

    @command("MGET")
    def mget(self, key, *keys):
        return array([bulk(self.find(key)) for key in (key, *keys)])

    @command("MSET")
    def mset(self, key, value, *more):
        if len(more) % 2:
            raise CommandError("ERR wrong number of arguments for 'mset' command")
        words = (key, value, *more)
        for name, content in zip(words[::2], words[1::2], strict=True):
            self.set(name, content)
        return OK

    @command("INCR")
    def incr(self, key):
        return self._add(key, 1)

    @command("DECR")
    def decr(self, key):
        return self._add(key, -1)

    @command("INCRBY")
    def incrby(self, key, amount):
        return self._add(key, number(amount))

    @command("DECRBY")
    def decrby(self, key, amount):
        return self._add(key, -number(amount))

    def _add(self, key, amount):
        value = self.find(key)
        total = amount if value is None else number(value) + amount
        if not -LAST - 1 <= total <= LAST:
            raise CommandError("ERR increment or decrement would overflow")
        self.values[key] = b"%d" % total
        return integer(total)

    # Keys

    @command("DEL", "UNLINK")
    def delete(self, key, *keys):
        return integer(sum(self.find(key) is not None and self.remove(key) is not None for key in (key, *keys)))

    @command("EXISTS")
    def exists(self, key, *keys):
        return integer(sum(self.find(key) is not None for key in (key, *keys)))

    @command("EXPIRE")
    def expire(self, key, seconds):
        return self._expire(key, number(seconds), "expire", 1)

    @command("PEXPIRE")
    def pexpire(self, key, milliseconds):
        return self._expire(key, number(milliseconds), "pexpire", 1000)

    def _expire(self, key, amount, name, unit):
        if abs(amount) > LAST // 1000 * unit:
            raise CommandError(f"ERR invalid expire time in '{name}' command")
        if self.find(key) is None:
            return integer(0)
        if amount > 0:
            self._expire_in(key, amount / unit)
        else:
            self.remove(key)
        return integer(1)

    @command("TTL")
    def ttl(self, key):
        milliseconds = self._time_left(key)
        return integer(milliseconds if milliseconds < 0 else (milliseconds + 500) // 1000)

    @command("PTTL")
    def pttl(self, key):
        return integer(self._time_left(key))

    def _time_left(self, key):
        if self.find(key) is None:
            return -2
        deadline = self._deadlines.get(key)
        return -1 if deadline is None else round((deadline - self._clock()) * 1000)

    @command("PERSIST")
    def persist(self, key):
        return integer(self.find(key) is not None and self._deadlines.pop(key, None) is not None)

    @command("KEYS")
    def keys(self, pattern):
        match = glob(pattern).fullmatch
        return array([bulk(key) for key in list(self.values) if match(key) and self.find(key) is not None])

    @command("DBSIZE")
    def dbsize(self):
        return integer(len(self.values))

    @command("FLUSHALL", "FLUSHDB")
    def flush(self, *options):
        if len(options) > 1 or (options and options[0].upper() not in (b"SYNC", b"ASYNC")):
            raise CommandError(SYNTAX)
        self.values.clear()
        self._deadlines.clear()
        self._queue.clear()
        return OK

    # The connection, and what clients ask before they begin

    @command("PING")
    def ping(self, *message):
        if len(message) > 1:
            raise CommandError("ERR wrong number of arguments for 'ping' command")
        return bulk(message[0]) if message else b"+PONG\r\n"

    @command("ECHO")
    def echo(self, message):
        return bulk(message)

    @command("SELECT")
    def select(self, index):
        if number(index) != 0:
            raise CommandError("ERR DB index is out of range")
        return OK

    @command("QUIT")
    def quit(self, *words):
        raise QuitError

    @command("HELLO")
    def hello(self, *options):
        if options and options[0] != b"2":
            raise CommandError("NOPROTO unsupported protocol version")
        facts = {b"server": bulk(b"redis"), b"version": bulk(b"7.0.0"), b"proto": integer(2), b"role": bulk(b"master")}
        return array([reply for name, fact in facts.items() for reply in (bulk(name), fact)])

    @command("CLIENT")
    def client(self, what, *words):
        if what.upper() not in (b"SETINFO", b"SETNAME"):
            raise CommandError(f"ERR unknown subcommand '{text_of(what)}'.")
        return OK

    @command("COMMAND")
    def describe(self, *words):
        return array([])

    @command("CONFIG")
    def config(self, what, name, *more):
        if what.upper() != b"GET":
            raise CommandError(f"ERR unknown subcommand '{text_of(what)}'.")
        match = glob(name.lower()).fullmatch
        settings = [(b"save", b""), (b"appendonly", b"no")]
        return array([bulk(word) for setting in settings if match(setting[0]) for word in setting])
