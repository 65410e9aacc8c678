"""Some of Redis' commands, with its errors. Part of redis_server.py.

A command is a method that takes words and returns a reply; how many words it takes is seen by its parameters.
"""

import inspect
import itertools
import sys

from redis_database import glob
from redis_protocol import NIL, OK, CommandStream, array, bulk, error, integer

LAST = 2**63 - 1  # the largest integer that Redis knows

COMMANDS = {}
"""By their names: the function, and how many words there are at least and at most, with the name."""


class CommandError(Exception):
    """A command that can not be done, in the words of Redis."""


SYNTAX = "ERR syntax error"


def command(*names):
    """Make a method the command of these names."""

    def add(function):
        parameters = inspect.signature(function).parameters.values()
        words = [word for word in parameters if word.kind is not word.VAR_POSITIONAL]  # with self, as the name
        least = sum(word.default is word.empty for word in words)
        most = len(words) if len(words) == len(parameters) else sys.maxsize
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
    try:
        value = int(text)
    except ValueError:
        value = LAST + 1
    if not -LAST - 1 <= value <= LAST or b"%d" % value != text:
        raise CommandError("ERR value is not an integer or out of range")
    return value


class Client:
    """One of those that are connected to a database: its stream of commands, and what they do."""

    _numbers = itertools.count(1)

    def __init__(self, database):
        self.database = database
        self.stream = CommandStream()
        self.quits = False
        self._number = next(self._numbers)
        self._name = None
        self._protocol = 2
        self._nil = NIL

    def _bulk(self, value):
        return self._nil if value is None else bulk(value)

    def _map(self, items):
        """Keys and values. RESP3 has a type for it, and one for nothing: all that is different here from RESP2."""
        replies = [reply for item in items for reply in item]
        return array(replies) if self._protocol == 2 else b"%%%d\r\n%b" % (len(replies) // 2, b"".join(replies))

    # Strings

    @command("GET")
    def get(self, key):
        return self._bulk(self.database.find(key))

    @command("SET")
    def set(self, key, value, *options):
        seconds = condition = None
        keep = False
        if options:
            seconds, condition, keep = self._set_options(options)
            if condition is not None and (self.database.find(key) is None) != (condition == b"NX"):
                return self._nil
        self.database.values[key] = value
        if seconds is not None:
            self.database.expire_in(key, seconds)
        elif not keep and self.database.deadlines:
            self.database.deadlines.pop(key, None)
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
        return array([self._bulk(self.database.find(key)) for key in (key, *keys)])

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
        value = self.database.find(key)
        total = amount if value is None else number(value) + amount
        if not -LAST - 1 <= total <= LAST:
            raise CommandError("ERR increment or decrement would overflow")
        self.database.values[key] = b"%d" % total
        return integer(total)

    # Keys

    @command("DEL", "UNLINK")
    def delete(self, key, *keys):
        return integer(
            sum(self.database.find(key) is not None and self.database.remove(key) is not None for key in (key, *keys))
        )

    @command("EXISTS")
    def exists(self, key, *keys):
        return integer(sum(self.database.find(key) is not None for key in (key, *keys)))

    @command("EXPIRE")
    def expire(self, key, seconds):
        return self._expire(key, number(seconds), "expire", 1)

    @command("PEXPIRE")
    def pexpire(self, key, milliseconds):
        return self._expire(key, number(milliseconds), "pexpire", 1000)

    def _expire(self, key, amount, name, unit):
        if abs(amount) > LAST // 1000 * unit:
            raise CommandError(f"ERR invalid expire time in '{name}' command")
        if self.database.find(key) is None:
            return integer(0)
        if amount > 0:
            self.database.expire_in(key, amount / unit)
        else:
            self.database.remove(key)
        return integer(1)

    @command("TTL")
    def ttl(self, key):
        milliseconds = self._time_left(key)
        return integer(milliseconds if milliseconds < 0 else (milliseconds + 500) // 1000)

    @command("PTTL")
    def pttl(self, key):
        return integer(self._time_left(key))

    def _time_left(self, key):
        if self.database.find(key) is None:
            return -2
        deadline = self.database.deadlines.get(key)
        return -1 if deadline is None else round((deadline - self.database.clock()) * 1000)

    @command("PERSIST")
    def persist(self, key):
        return integer(self.database.find(key) is not None and self.database.deadlines.pop(key, None) is not None)

    @command("KEYS")
    def keys(self, pattern):
        return array([bulk(key) for key in self.database.keys(pattern)])

    @command("DBSIZE")
    def dbsize(self):
        return integer(len(self.database.values))

    @command("FLUSHALL", "FLUSHDB")
    def flush(self, *options):
        if len(options) > 1 or (options and options[0].upper() not in (b"SYNC", b"ASYNC")):
            raise CommandError(SYNTAX)
        self.database.clear()
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
        self.quits = True
        return OK

    @command("HELLO")
    def hello(self, protocol=None, *options):
        if protocol not in (None, b"2", b"3"):
            raise CommandError("NOPROTO unsupported protocol version")
        if options and (options[0].upper() != b"SETNAME" or len(options) != 2):
            raise CommandError(f"ERR Syntax error in HELLO option '{text_of(options[0])}'")
        if options:
            self._name = options[1]
        if protocol is not None:
            self._protocol = int(protocol)
            self._nil = NIL if protocol == b"2" else b"_\r\n"
        facts = [(b"server", bulk(b"redis")), (b"version", bulk(b"7.0.0")), (b"proto", integer(self._protocol))]
        facts += [(b"id", integer(self._number)), (b"mode", bulk(b"standalone")), (b"role", bulk(b"master"))]
        return self._map((bulk(name), fact) for name, fact in facts)

    @command("CLIENT")
    def client(self, what, *words):
        match what.upper(), *words:
            case (b"ID",):
                return integer(self._number)
            case (b"GETNAME",):
                return self._bulk(self._name)
            case b"SETNAME", name:
                self._name = name
            case b"SETINFO", _, _:
                pass
            case _:
                raise CommandError(f"ERR unknown subcommand '{text_of(what)}'. Try CLIENT HELP.")
        return OK

    @command("COMMAND")
    def describe(self, *words):
        return array([])  # for help, which a client can do without

    @command("CONFIG")
    def config(self, what, *names):
        if what.upper() != b"GET" or not names:
            raise CommandError(f"ERR unknown subcommand '{text_of(what)}'. Try CONFIG HELP.")
        settings = [(b"save", b""), (b"appendonly", b"no")]
        asked = [item for item in settings if any(glob(name.lower()).fullmatch(item[0]) for name in names)]
        return self._map(map(bulk, item) for item in asked)
