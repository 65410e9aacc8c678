"""examples/redis_server.py: with Redis' own programs, its client library, and plain sockets."""

import asyncio
import importlib.util
import subprocess
import time

import pytest
from example import LIMIT, TCP, connect, encode, needs, running, talk

needs_library = pytest.mark.skipif(not importlib.util.find_spec("redis"), reason="redis is not installed")


@pytest.fixture(scope="module")
def address():
    with running("redis_server", TCP) as (address,):
        yield address


@pytest.fixture
def empty(address):
    assert talk(address, b"FLUSHALL\r\nQUIT\r\n") == b"+OK\r\n+OK\r\n"
    return address


def run(*command, data=""):
    return subprocess.run(command, input=data, capture_output=True, text=True, timeout=LIMIT, check=True).stdout


# Redis' own programs


@needs("redis-cli")
def test_redis_cli(empty):
    host, port = empty
    cli = ["redis-cli", "-h", host, "-p", str(port)]
    assert run(*cli, "PING") == "PONG\n"
    assert run(*cli, "ECHO", "a word") == "a word\n"
    assert run(*cli, "SET", "key", "a value", "EX", "100") == "OK\n"
    assert run(*cli, "GET", "key") == "a value\n"
    assert run(*cli, "TTL", "key") in ("100\n", "99\n", "98\n")
    assert run(*cli, "EXPIRE", "key", "1000") == "1\n"
    assert run(*cli, "TTL", "key") in ("1000\n", "999\n", "998\n")
    assert run(*cli, "--no-raw", "MGET", "key", "none") == '1) "a value"\n2) (nil)\n'
    assert run(*cli, "-3", "--no-raw", "GET", "none") == "(nil)\n"
    assert [run(*cli, "INCR", "counter") for _ in range(2)] == ["1\n", "2\n"]
    assert run(*cli, "DEL", "key", "counter", "none") == "2\n"
    assert run(*cli, "--no-raw", "GET", "key") == "(nil)\n"
    assert run(*cli, data='set quoted "\\x00\\n"\nget quoted\nno such\nincr number\n').splitlines() == [
        "OK",
        "\0",
        "",
        "ERR unknown command 'no', with args beginning with: 'such' ",
        "",
        "1",
    ]


@needs("redis-cli")
def test_redis_cli_pipes_much(empty):
    host, port = empty
    data = b"".join(encode(b"SET", b"key%d" % number, b"%d" % number) for number in range(10_000))
    said = run("redis-cli", "-h", host, "-p", str(port), "--pipe", data=data.decode())
    assert "errors: 0, replies: 10000" in said
    assert talk(empty, b"DBSIZE\r\nGET key9999\r\nQUIT\r\n") == b":10000\r\n$4\r\n9999\r\n+OK\r\n"


@needs("redis-benchmark")
@pytest.mark.parametrize("pipelined", [1, 8, 16])
def test_redis_benchmark(empty, pipelined):
    host, port = empty
    told = run(
        *("redis-benchmark", "-h", host, "-p", str(port), "-t", "get,set,incr,ping", "-n", "2000", "-q"),
        *("-P", str(pipelined)),
    )
    for name in ("PING_INLINE", "PING_MBULK", "SET", "GET", "INCR"):
        assert f"{name}: " in told
    assert "Error" not in told
    assert talk(empty, b"GET counter:__rand_int__\r\nQUIT\r\n") == b"$4\r\n2000\r\n+OK\r\n"


# The client library


@needs_library
@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py(empty, protocol):
    import redis

    with redis.Redis(*empty, socket_timeout=LIMIT, protocol=protocol, client_name="tests") as client:
        assert client.ping() is True
        assert client.client_getname() in ("tests", b"tests")
        assert client.set("key", b"\r\n\0", ex=100) is True
        assert client.get("key") == b"\r\n\0"
        assert client.set("key", "x", nx=True) is None
        assert client.set("new", "x", xx=True) is None
        assert 0 < client.ttl("key") <= 100
        assert client.persist("key") == 1
        assert client.ttl("key") == -1
        assert client.ttl("none") == -2
        assert client.expire("key", 100) == 1
        assert client.mset({"a": 1, "b": 2}) is True
        assert client.mget("a", "b", "none") == [b"1", b"2", None]
        assert [client.incr("a"), client.decr("a", 5), client.incrby("a", 10)] == [2, -3, 7]
        assert sorted(client.keys("[ab]")) == [b"a", b"b"]
        assert client.exists("a", "a", "none") == 2
        assert client.delete("a", "b", "none") == 2
        assert client.dbsize() == 1
        assert client.echo("echo") == b"echo"
        assert client.config_get("save") == {"save": ""}
        big = bytes(range(256)) * 4096
        assert client.set("big", big) is True
        assert client.get("big") == big
        with client.pipeline(transaction=False) as pipeline:
            for number in range(1000):
                pipeline.set(f"p{number}", number).get(f"p{number}")
            assert pipeline.execute() == [reply for number in range(1000) for reply in (True, b"%d" % number)]
        with pytest.raises(redis.ResponseError, match="value is not an integer or out of range"):
            client.incr("key")
        assert client.flushall() is True
        assert client.keys() == []


@needs_library
async def test_redis_py_on_our_loop(empty):
    import redis.asyncio

    async with redis.asyncio.Redis(host=empty[0], port=empty[1]) as client, asyncio.timeout(LIMIT):

        async def count(number):
            for _ in range(10):
                await client.incr("counter")
            await client.set(f"key{number}", b"x" * number)
            assert await client.get(f"key{number}") == b"x" * number

        await asyncio.gather(*(count(number) for number in range(50)))
        assert await client.get("counter") == b"500"
        assert await client.dbsize() == 51


# Plain sockets


@pytest.mark.parametrize("command", [b"GET key", b"DBSIZE"])
def test_expiry_in_the_server(empty, command):
    """DBSIZE looks at no key: that is the tick's work."""
    with connect(empty) as sock:
        sock.sendall(b"SET key value PX 1\r\n")
        assert sock.recv(100) == b"+OK\r\n"
        deadline = time.monotonic() + LIMIT
        said = b""
        while said not in (b"$-1\r\n", b":0\r\n"):
            assert time.monotonic() < deadline
            sock.sendall(command + b"\r\n")
            said = sock.recv(100)


def test_a_large_value_and_many_words(empty):
    value = bytes(range(256)) * 4096
    keys = [b"key%d" % number for number in range(20_000)]
    sent = encode(b"SET", b"key7", value) + encode(b"GET", b"key7") + encode(b"EXISTS", *keys) + encode(b"QUIT")
    assert talk(empty, sent) == b"+OK\r\n$%d\r\n%b\r\n:1\r\n+OK\r\n" % (len(value), value)


def test_byte_by_byte(empty):
    sent = encode(b"SET", b"\r\n", b"$1\r\n") + b"\r\nget 'a' \n" + encode(b"GET", b"\r\n") + encode(b"QUIT")
    assert talk(empty, sent, 1) == b"+OK\r\n$-1\r\n$4\r\n$1\r\n\r\n+OK\r\n"
