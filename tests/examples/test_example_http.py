"""examples/http_server.py: with clients that know HTTP, and byte by byte."""

import asyncio
import email.utils
import http.client
import re
import time

import aiohttp
import pytest
from example import LIMIT, TCP, answers, connect, cut, running, talk
from http_server import HEAD_LIMIT, Http, understand
from hypothesis import given, settings
from hypothesis import strategies as st

BODY = b"Hello, World!\n"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def address():
    with running("http_server", TCP) as (address,):
        yield address


class Dated(Http):
    """Has the same date in all answers."""

    def tick(self):
        self.date = b"today"


def statuses(said):
    """The statuses of some replies, whose bodies do not look like one."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) [^\r]+\r\n", said)]


def request(*fields, line=b"GET / HTTP/1.1", body=b""):
    return b"%b\r\n%b\r\n%b" % (line, b"".join(b"%b\r\n" % field for field in fields), body)


def test_keep_alive(address):
    client = http.client.HTTPConnection(*address, timeout=LIMIT)
    client.connect()
    sock = client.sock
    for method, path, body, status in [
        ("GET", "/", None, 200),
        ("GET", "/?query", None, 200),
        ("HEAD", "/", None, 200),
        ("POST", "/", b"x" * 1_000_000, 200),
        ("GET", "/none", None, 404),
        ("POST", "/none", b"GET / HTTP/1.1\r\n\r\n", 404),
        ("DELETE", "/", None, 405),
        ("GET", "/", None, 200),
    ]:
        client.request(method, path, body)
        response = client.getresponse()
        read = response.read()
        assert response.status == status
        if status == 200:
            assert read == (b"" if method == "HEAD" else BODY)
            assert response.headers["Content-Length"] == str(len(BODY))
        assert client.sock is sock
    client.close()


def test_the_date_goes_on(address):
    client = http.client.HTTPConnection(*address, timeout=LIMIT)
    deadline = time.monotonic() + LIMIT
    dates = set()
    while len(dates) < 2:
        assert time.monotonic() < deadline
        client.request("GET", "/")
        with client.getresponse() as response:
            response.read()
            dates.add(email.utils.parsedate_to_datetime(response.headers["Date"]))
    client.close()
    first, second = sorted(dates)
    assert (second - first).total_seconds() >= 1


@pytest.mark.parametrize("size", [0, 1, 7])
def test_pipelined(address, size):
    """All of them at once, or cut anywhere."""
    body = b"\r\n\r\nGET / HTTP/1.1\r\n"
    post = request(b"Host: x", b"Content-Length: %d" % len(body), line=b"POST / HTTP/1.1", body=body)
    said = talk(address, GET * 3 + post + GET + LAST, size)
    assert statuses(said) == [200] * 6
    assert said.count(BODY) == 6
    assert said.count(b"Connection: close") == 1


def test_nothing_is_answered_after_the_last(address):
    assert statuses(talk(address, LAST + GET)) == [200]


def test_http_1_0(address):
    assert statuses(talk(address, b"GET / HTTP/1.0\r\n\r\n")) == [200]
    kept = request(b"Connection: Keep-Alive", line=b"GET / HTTP/1.0")
    said = talk(address, kept + b"GET / HTTP/1.0\r\n\r\n")
    assert statuses(said) == [200, 200]
    assert said.count(b"Connection: keep-alive\r\n") == 1


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (400, b"nonsense\r\n"),  # before its end
        (400, b"GET / HTTP/1.1\n"),
        (400, b"\r\n\r\n\r\n"),
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n"),  # TLS
        (400, b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\n\r\n"),  # no host
        (400, request(b"Host: x", b"Host: y")),
        (400, request(b"Host: x", b"no field")),
        (400, request(b"Host : x")),
        (400, request(b"Host: x", b" folded")),
        (400, request(b"Host: x", b"Name: with\nfeed")),
        (400, request(b"Host: x", b"Content-Length: -1")),
        (400, request(b"Host: x", b"Content-Length: 1, 1")),
        (400, request(b"Host: x", b"Content-Length: 1", b"Content-Length: 2")),
        (400, request(b"Host: x", b"Content-Length: 1", b"Transfer-Encoding: chunked")),
        (411, request(b"Host: x", b"Transfer-Encoding: chunked")),
        (501, request(b"Host: x", b"Transfer-Encoding: gzip")),
        (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (431, b"x" * HEAD_LIMIT),
        (431, request(b"Host: x", b"Name: " + b"x" * HEAD_LIMIT)),
        (431, request(b"Host: x", b"Name: " + b"x" * HEAD_LIMIT)[:HEAD_LIMIT]),
    ],
)
def test_what_is_refused(address, status, sent):
    """It is the last answer, whether it comes first or after another request."""
    assert statuses(talk(address, sent)) == [status]
    assert statuses(talk(address, GET + sent)) == [200, status]


def test_a_refusal_arrives_however_much_is_sent(address):
    with connect(address) as sock:
        sock.sendall(request(b"Host: x", b"Transfer-Encoding: chunked") + bytes(100))
        for _ in range(50):
            sock.sendall(bytes(100_000))
        assert statuses(b"".join(iter(lambda: sock.recv(65536), b""))) == [411]


def test_a_head_of_the_largest_size():
    head = request(b"Host: x", b"Name: ")
    field = b"Name: " + b"x" * (HEAD_LIMIT - len(head))
    assert statuses(answers(Http(), request(b"Host: x", field))[0]) == [200]
    assert statuses(answers(Http(), request(b"Host: x", field + b"x"))[0]) == [431]


def test_a_client_that_waits_before_the_body(address):
    post = request(
        b"Host: x", b"Content-Length: 4", b"Expect: 100-continue", b"Connection: close", line=b"POST / HTTP/1.1"
    )
    with connect(address) as sock:
        sock.sendall(post)
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"body")
        assert statuses(b"".join(iter(lambda: sock.recv(100), b""))) == [200]


async def test_aiohttp(address):
    async with aiohttp.ClientSession(f"http://{address[0]}:{address[1]}") as session, asyncio.timeout(LIMIT):

        async def ask(number):
            body = bytes(1000 * number)
            async with session.request("POST" if number % 2 else "GET", "/", data=body or None) as response:
                assert response.status == 200
                assert await response.read() == BODY

        await asyncio.gather(*(ask(number) for number in range(200)))


def test_what_is_remembered_of_heads_is_bounded():
    for number in range(1000):
        answers(Http(), request(b"Host: %d" % number))
    assert understand.cache_info().currsize == 256
    hits = understand.cache_info().hits
    for number in range(1000):  # that they differ where they are too large already is not seen
        answers(Http(), request(b"Host: %b%d" % (b"x" * HEAD_LIMIT, number)))
    assert understand.cache_info().hits == hits + 999


PARTS = [
    GET,
    LAST,
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    request(b"Host: x", b"Content-Length: 10", line=b"POST / HTTP/1.1", body=b"0123\r\n\r\n89"),
    request(b"Host: x", b"Content-Length: 2", b"expect: 100-Continue", line=b"POST /none HTTP/1.1", body=b"ab"),
    request(b"Host: x", line=b"HEAD / HTTP/1.1"),
    request(b"Host: x", b"Name: " + b"x" * HEAD_LIMIT),
    b"x" * HEAD_LIMIT,
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"GET / HTTP/1.1\r\n",
    b"GET / HTTP/2.0\r\n",
    b"Host: x\r\n",
    b"\0",
]


@settings(deadline=None)
@given(st.lists(st.sampled_from(PARTS) | st.binary(max_size=3), max_size=8), st.lists(st.integers(0, 2**20)))
def test_however_it_is_cut(parts, places):
    data = b"".join(parts)
    assert answers(Dated(), *cut(data, places)) == answers(Dated(), data)


@settings(deadline=None)
@given(st.lists(st.sampled_from(PARTS[:6]), max_size=8))
def test_byte_by_byte(parts):
    data = b"".join(parts)
    assert answers(Dated(), *cut(data, list(range(len(data))))) == answers(Dated(), data)
