"""The addresses of a server: each kind is served, and what is none is refused."""

import asyncio
import errno
import os
import socket

import pytest
from recording import LIMIT, Recording

import epoll_loop
from epoll_loop import Address
from epoll_loop.serving.addresses import parse
from epoll_loop.serving.binding import bind

pytestmark = pytest.mark.usefixtures("no_descriptor_left")
LOCALHOST = [(socket.AF_INET6, ("::1", 0, 0, 0)), (socket.AF_INET, ("127.0.0.1", 0))]


def resolve_to(monkeypatch, *found):
    """Have every name be these addresses."""

    async def getaddrinfo(host, port, **options):
        return [(family, options["type"], 0, "", (name[0], port, *name[2:])) for family, name in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("scheme", ["tcp4", "tcp6", "udp4", "udp6", "unix"])
@pytest.mark.parametrize("by_hand", [False, True])
async def test_each_kind_is_served(connect, tmp_path, scheme, by_hand):
    host = "::1" if scheme.endswith("6") else "127.0.0.1"
    family = socket.AF_INET6 if scheme.endswith("6") else socket.AF_INET
    if scheme == "unix":
        address = Address("unix", path=str(tmp_path / "socket"))
    else:
        address = Address(scheme[:3], host, family=family)
    text = str(address).replace(scheme[:3], scheme) if scheme != "unix" else str(address)
    assert parse(text) == address
    async with await epoll_loop.start_serving(Recording(), address if by_hand else text) as server:
        (name,) = server.addresses
        assert name == address.path if scheme == "unix" else name[0] == host
        if scheme.startswith("udp"):
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.connect(name)
                sock.send(b"hello")
                async with asyncio.timeout(LIMIT):
                    assert await server.loop.sock_recv(sock, 100) == b"hello"
        else:
            client = await connect(name)
            assert await client.say(b"hello") == b"hello"


@pytest.mark.parametrize("host", ["localhost", ""])
async def test_a_host_with_several_addresses(connect, monkeypatch, host):
    """All are served, with one port, which is the one of the address that is told of."""
    resolve_to(monkeypatch, *LOCALHOST)
    async with await epoll_loop.start_serving(Recording(), f"tcp://{host}:0", "tcp://127.0.0.1:0") as server:
        assert len(server.addresses) == 2  # one for each that was asked for
        (host, port, *_) = server.addresses[0]
        assert host == "::1"
        for _, name in LOCALHOST:
            client = await connect((name[0], port))
            assert await client.say(b"hello") == b"hello"


@pytest.mark.parametrize("taken", [2, 1000])
async def test_a_port_that_is_free_for_one_of_them_only(monkeypatch, taken):
    """Another one is tried for all of them, though not for ever."""
    loop = asyncio.get_running_loop()
    resolve_to(monkeypatch, *LOCALHOST)
    tried = []

    def bind_all(infos, *options):
        if len(infos) == 1:  # the second one, with the port of the first
            tried.append(infos[0][4])
            if len(tried) <= taken:
                raise OSError(errno.EADDRINUSE, "in use")
        return usual(infos, *options)

    usual = loop._bind_all
    monkeypatch.setattr(loop, "_bind_all", bind_all)
    if taken == 1000:
        with pytest.raises(OSError, match="in use"):
            await epoll_loop.start_serving(Recording(), "tcp://localhost:0")
        assert 1 < len(tried) < taken
        return
    async with await epoll_loop.start_serving(Recording(), "tcp://localhost:0") as server:
        assert tried[-1] == ("127.0.0.1", server.addresses[0][1])
    assert len(tried) == 3


async def test_a_host_of_which_one_address_is_taken(monkeypatch):
    """Then none of them is served."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        resolve_to(monkeypatch, *LOCALHOST)
        with pytest.raises(OSError, match="in use"):
            await epoll_loop.start_serving(Recording(), f"tcp://localhost:{other.getsockname()[1]}")


async def test_a_host_of_which_the_sockets_can_not_be_served(monkeypatch):
    """They are closed again, all of them."""
    loop = asyncio.get_running_loop()
    resolve_to(monkeypatch, *LOCALHOST)

    async def fail(*args, **options):
        raise ZeroDivisionError

    monkeypatch.setattr(loop, "create_server", fail)
    with pytest.raises(ZeroDivisionError):
        await epoll_loop.start_serving(Recording(), "tcp://localhost:0")


@pytest.mark.parametrize("apart", [True, False])
async def test_one_port_of_a_host_with_several_addresses_for_many_loops(monkeypatch, apart):
    resolve_to(monkeypatch, *LOCALHOST)
    bound = await bind(asyncio.get_running_loop(), parse("tcp://localhost:0"), 2, apart)
    sockets = [*bound.sockets, *(sock for index in range(2) for sock in bound.for_worker(index))]
    assert len(sockets) == (6 if apart else 2)
    assert {sock.getsockname()[1] for sock in sockets} == {bound.name[1]}
    for sock in sockets:
        sock.close()


async def test_a_socket_of_all_does_not_block_those_who_have_it(tmp_path):
    """It is duplicated for the next worker while the first one accepts on it."""
    bound = await bind(asyncio.get_running_loop(), parse(f"unix://{tmp_path / 'socket'}"), 2, True)
    sockets = [sock for index in range(3) for sock in bound.for_worker(index)]
    assert [os.get_blocking(sock.fileno()) for sock in sockets] == [False] * 3
    for sock in sockets:
        sock.close()
    bound.close()


@pytest.mark.parametrize("tls", ["context", True], ids=["str", "bool"])
async def test_tls_that_is_no_context(tls):
    for options in ({}, {"loops": 2}):
        with pytest.raises(TypeError, match="tls is an SSLContext, or a function that returns one, not "):
            await asyncio.to_thread(epoll_loop.serve, Recording(), "tcp://127.0.0.1:0", tls=tls, **options)


@pytest.mark.parametrize("out", [None, 1, bytes])
async def test_tls_of_which_comes_no_context(out):
    with pytest.raises(TypeError, match="which is no SSLContext"):
        await epoll_loop.start_serving(Recording(), "tcp://127.0.0.1:0", Address("tcp", tls=lambda: out))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"kind": "http"}, "of kind tcp, udp or unix, not 'http'"),
        ({"kind": "unix"}, "a Unix address has a path, not ''"),
        ({"kind": "unix", "path": b"/socket"}, "a Unix address has a path, not b'/socket'"),
        ({"kind": "unix", "path": "/socket", "host": "localhost"}, "a path only"),
        ({"kind": "unix", "path": "/socket", "port": 1}, "a path only"),
        ({"kind": "unix", "path": "/socket", "family": socket.AF_INET}, "a path only"),
        ({"kind": "unix", "path": "/socket", "reuse_port": True}, "no port to be reused"),
        ({"kind": "tcp", "path": "/socket"}, "not the path '/socket'"),
        ({"kind": "tcp", "host": 7}, "a host is a name, or None for every interface, not 7"),
        ({"kind": "tcp", "port": -1}, "from 0 to 65535, not -1"),
        ({"kind": "udp", "port": 65536}, "from 0 to 65535, not 65536"),
        ({"kind": "tcp", "port": "80"}, "from 0 to 65535, not '80'"),
        ({"kind": "tcp", "port": True}, "from 0 to 65535, not True"),
        ({"kind": "tcp", "family": socket.AF_UNIX}, "AF_INET, AF_INET6 or AF_UNSPEC"),
        ({"kind": "udp", "tls": bytes}, "no TLS for UDP"),
    ],
    ids=str,
)
def test_what_is_no_address(fields, text):
    with pytest.raises(ValueError, match=text):
        Address(**fields)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("unix://?reuseport=true", "has a path"),
        ("unix:///socket?reuseport=true", "no port to be reused"),
        ("tcp://127.0.0.1", "not tcp://HOST:PORT"),
        ("tcp://user@127.0.0.1:1", "not tcp://HOST:PORT"),
        ("udp://127.0.0.1:1/path", "not udp://HOST:PORT"),
        ("127.0.0.1:65536", "out of range"),
        ("ftp://127.0.0.1:1", "begins with none of tcp, "),
        ("tcp://127.0.0.1:1#fragment", "not tcp://HOST:PORT"),
        ("udp://[::1]:0#?reuseport=true", "not udp://HOST:PORT"),
    ],
)
def test_a_text_that_is_no_address(text, wrong):
    """The error has the text, and what is wrong with it."""
    with pytest.raises(ValueError, match=wrong) as caught:
        parse(text)
    assert str(caught.value).startswith(repr(text))


def test_without_so_reuseport(monkeypatch):
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    assert parse("tcp://:1").host is None
    with pytest.raises(ValueError, match="no SO_REUSEPORT"):
        parse("tcp://:1?reuseport=true")
