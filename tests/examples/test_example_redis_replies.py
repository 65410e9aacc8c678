"""examples/redis_server.py: its replies, next to those of Redis itself, and however its input is cut."""

import socket
import subprocess

import pytest
from example import LIMIT, answers, cut, encode, needs, said_by
from hypothesis import given, settings
from hypothesis import strategies as st
from redis_commands import COMMANDS, Client
from redis_database import Database, glob
from redis_protocol import LINE_LIMIT, CommandStream
from redis_server import Redis

# Next to Redis


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The socket of a redis-server."""
    path = str(tmp_path_factory.mktemp("redis") / "socket")
    options = ["--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no"]
    with subprocess.Popen(["redis-server", *options], stdout=subprocess.PIPE) as child:
        try:
            said_by(child, lambda said: b"ready to accept connections" in said.lower())
            yield path
        finally:
            child.terminate()


SESSIONS = {
    "strings": b"""SET a 1
        GET a
        GET none
        SET a 2 NX
        SET b 2 XX
        SET a 3 XX
        MGET a b none
        MSET x 1 y 2
        MSET x 1 y
        MSET x
        mget x y
        set "a b" 'c d'
        GET "a b"
        SET "" ""
        GET ""
        """,
    "numbers": b"""INCR n
        DECR n
        INCRBY n 10
        DECRBY n 20
        GET n
        SET n x
        INCR n
        SET n 01
        INCR n
        SET n " 1"
        INCR n
        SET n 9223372036854775807
        INCR n
        DECRBY n 9223372036854775807
        DECR n
        INCRBY n x
        INCRBY n 1.0
        INCRBY n 9223372036854775808
        SET n -9223372036854775808
        DECR n
        INCR n
        SET n -0
        INCR n
        """,
    "keys": b"""MSET one 1 two 2 three 3
        EXISTS one one none
        DEL one one none
        UNLINK two
        DBSIZE
        KEYS *
        KEYS t?ree
        KEYS [^a-s]h*
        KEYS [e-a]*
        FLUSHALL
        FLUSHDB ASYNC
        FLUSHALL x
        DBSIZE
        """,
    "expiry": b"""SET k v EX 100
        TTL k
        TTL none
        PERSIST k
        PERSIST k
        PERSIST none
        TTL k
        EXPIRE k 100
        INCR k
        TTL k
        SET k v KEEPTTL
        TTL k
        SET k v
        TTL k
        SET k v PX 100000
        TTL k
        EXPIRE none 1
        EXPIRE k x
        EXPIRE k -1
        EXISTS k
        EXPIRE k 9223372036854775807
        SET k v EX 0
        SET k v EX -1
        SET k v PX x
        SET k v EX
        SET k v EX 9223372036854775807
        SET k v EX 1 PX 1
        SET k v NX XX
        SET k v what
        GET k
        """,
    "the rest": b"""PING
        ping hello
        PING a b
        ECHO hello
        ECHO
        GET
        GET a b
        SET a
        INCR
        DBSIZE x
        nosuch
        NoSuch a "b c"
        "line\\r\\nend" "x\\r\\ny"
        SELECT 0
        SELECT 100
        SELECT x
        HELLO 4
        CLIENT SETNAME tests
        CLIENT GETNAME
        CONFIG GET save
        CONFIG GET none
        """,
}
WRONG = [
    b"*x\r\n",
    b"*1\r\nx\r\n",
    b"*1\r\n$x\r\n",
    b"*1\r\n$-1\r\n",
    b"*1\r\n$536870913\r\n",
    b"*01\r\n",
    b'SET a "b\r\n',
    b"SET a 'b\r\n",
    b'SET a "b"c\r\n',
    b"x" * (LINE_LIMIT + 1),
    b"*" + b"1" * LINE_LIMIT,
    b"*1\r\n$" + b"1" * LINE_LIMIT,
]


def asked(path, data):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(LIMIT)
        sock.connect(path)
        sock.sendall(data)
        return b"".join(iter(lambda: sock.recv(65536), b""))


@needs("redis-server")
@pytest.mark.parametrize("name", SESSIONS)
def test_replies_are_those_of_redis(original, name):
    lines = [line.strip() for line in SESSIONS[name].splitlines()]
    data = b"\r\n".join([b"FLUSHALL", *lines, b"QUIT", b""])
    said, closed = answers(Redis(), data)
    assert closed
    assert said.split(b"\r\n") == asked(original, data).split(b"\r\n")


@needs("redis-server")
@pytest.mark.parametrize("data", WRONG, ids=lambda data: repr(data[:10]))
def test_errors_of_the_protocol_are_those_of_redis(original, data):
    said, closed = answers(Redis(), b"PING\r\n*0\r\n*-1\r\n\r\n", data)
    assert closed
    assert said == asked(original, b"PING\r\n*0\r\n*-1\r\n\r\n" + data)


# Expiry


def test_expiry_is_seen_when_a_key_is_asked_for():
    now = 0.0
    database = Database(lambda: now)
    client = Client(database)
    client.set(b"key", b"value", b"EX", b"10")
    client.set(b"other", b"value", b"PX", b"10500")
    now = 9.999
    assert client.get(b"key") == b"$5\r\nvalue\r\n"
    now = 10.0
    assert client.dbsize() == b":2\r\n"
    assert client.exists(b"key", b"other") == b":1\r\n"
    assert client.dbsize() == b":1\r\n"
    assert client.set(b"key", b"again", b"NX") == b"+OK\r\n"
    now = 11.0
    assert client.keys(b"*") == b"*1\r\n$3\r\nkey\r\n"


def test_a_tick_drops_what_nobody_asks_for():
    now = 0.0
    database = Database(lambda: now)
    client = Client(database)
    for number in range(5):
        client.set(b"%d" % number, b"", b"EX", b"%d" % (number + 1))
    client.persist(b"0")
    client.expire(b"1", b"100")
    now = 3.0
    database.drop_expired()
    assert sorted(database.values) == [b"0", b"1", b"3", b"4"]


def test_deadlines_that_are_out_of_date_do_not_pile_up():
    database = Database()
    client = Client(database)
    for _ in range(10_000):
        client.set(b"key", b"", b"EX", b"1000")
    assert len(database._queue) < 200


# The stream


WORDS = st.binary(max_size=20) | st.sampled_from([b"\r\n", b"*1\r\n", b"$1\r\n", b"", b"x" * 5000, b"a\r"])
PLACES = st.lists(st.integers(0, 2**20), max_size=20)


@settings(deadline=None)
@given(st.lists(st.lists(WORDS, min_size=1, max_size=5), max_size=10), PLACES)
def test_commands_come_out_as_they_went_in(commands, places):
    data = b"".join(encode(*command) for command in commands)
    stream = CommandStream()
    assert [command for piece in cut(data, places) for command in stream.feed(piece)] == commands
    assert stream.wrong is None


PARTS = [
    *(encode(*words.split()) for words in (b"SET a 1", b"GET a", b"incr a", b"MGET a b", b"nosuch", b"QUIT")),
    *(b"SET b 'x y'\r\n", b"PING\n", b"GET b\r\n", b"ECHO '\r\n", encode(b"SET", b"a", b"\r\n"), encode(b"GET")),
    *(b"*", b"$", b"1", b"2", b"-1", b"\r\n", b"\r", b"\n", b"*2\r\n", b"$4\r\nPING\r\n", b"*0\r\n", b"*-1\r\n"),
    b"x" * LINE_LIMIT,
]


@settings(deadline=None)
@given(st.lists(st.sampled_from(PARTS) | st.binary(max_size=3), max_size=10), PLACES)
def test_however_it_is_cut(parts, places):
    data = b"".join(parts)
    assert answers(Redis(), *cut(data, places)) == answers(Redis(), data)


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        (b"*", [b"", b"a", b"ab", b"a\n", b"*", b"]"]),
        (b"a*", [b"a", b"ab", b"a\n"]),
        (b"?", [b"a", b"*", b"]"]),
        (rb"\*", [b"*"]),
        (b"[a-c]?", [b"ab", b"a\n"]),
        (b"[^a]", [b"*", b"]"]),
        (rb"[\]]", [b"]"]),
        (b"[b-a]", [b"a"]),
        (b"[]", []),
        (b".", []),
    ],
)
def test_patterns(pattern, matches):
    names = [b"", b"a", b"ab", b"a\n", b"*", b"]"]
    assert [name for name in names if glob(pattern).fullmatch(name)] == matches


def test_all_commands_are_there():
    names = b"GET SET DEL EXISTS PING ECHO INCR DECR INCRBY DECRBY EXPIRE TTL PERSIST FLUSHALL FLUSHDB DBSIZE KEYS MGET"
    for name in (names + b" MSET COMMAND CONFIG CLIENT HELLO SELECT QUIT").split():
        assert COMMANDS[name] is COMMANDS[name.lower()]
