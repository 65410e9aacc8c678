"""What the tests of the awaited part share: real sockets in the states that they need."""

import asyncio
import contextlib
import functools
import os
import re
import socket
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import tls

import epoll_loop
import epoll_loop.net.tls

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "epoll_loop": epoll_loop.new_event_loop,
    "asyncio": asyncio.SelectorEventLoop,
}


def pytest_asyncio_loop_factories(item: pytest.Function) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Our loop; and asyncio's for modules that say `ASYNCIO_TOO = True`: they ask for what asyncio promises."""
    if getattr(item.module, "ASYNCIO_TOO", False):
        return LOOPS
    return {"epoll_loop": LOOPS["epoll_loop"]}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what would show the same again."""
    extra = {item for item in items if is_extra(set(re.split(r"[\[\]-]", item.name)))}
    config.hook.pytest_deselected(items=list(extra))
    items[:] = [item for item in items if item not in extra]


def is_extra(names: set[str]) -> bool:
    """Whether a test is, by its parameters.

    Once is enough to show that a test asks the right thing: asyncio's loop gets accepted TCP connections, and no engine
    but one. The engine of this build has all; another one is the same in both roles, and in both versions of TLS.
    """
    clients = {"connected", "connecting"}
    if "asyncio" in names:
        return bool(names & {"unix", "direct", "kernel", "TLS1.2"} | names & clients)
    if "kernel" in names:
        return "TLS1.2" in names
    if epoll_loop.net.tls.TLS_ENGINE in names:
        return False
    return bool(names & {"direct", "object"} and names & {"TLS1.2", *clients})


class Recorder(asyncio.Protocol):
    """Keeps what it is told, and futures to wait for it."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.data = bytearray()
        self.made = loop.create_future()
        self.lost = loop.create_future()
        self.received = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.made.set_result(None)

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.received.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


@pytest.fixture
def recorder() -> type[Recorder]:
    return Recorder


@pytest.fixture
def descriptors() -> Callable[[], int]:
    """Counts the open descriptors of the process."""
    return lambda: len(os.listdir("/proc/self/fd"))


@pytest.fixture(params=LOOPS.values(), ids=LOOPS)
def either_loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop for tests that run and close it themselves."""
    new = request.param()
    yield new
    new.close()


@pytest.fixture(params=["tcp", "unix"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected stream sockets, non-blocking."""
    if request.param == "unix":
        one, other = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as server:
            one = socket.create_connection(server.getsockname())
            other, _ = server.accept()
    with one, other:
        one.setblocking(False)
        other.setblocking(False)
        yield one, other


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


@pytest.fixture
def tcp(listener: socket.socket) -> Iterator[socket.socket]:
    """A TCP socket that is not connected."""
    with socket.socket() as sock:
        sock.setblocking(False)
        yield sock


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A standard socket that listens on 127.0.0.1: the kernel connects without anybody accepting."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(30)
        yield sock


@pytest.fixture
def refusing() -> Iterator[tuple[str, int]]:
    """An address that refuses: its port is taken, and nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()


@pytest.fixture
def silent() -> Iterator[tuple[str, int]]:
    """An address that never answers: the backlog is full, so the kernel drops what comes."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(8):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(server.getsockname())
        yield server.getsockname()


# TLS


@pytest.fixture(params=["direct", "object", "kernel"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What TLS promises, it promises on all engines. That of kernel TLS works without the kernel's help, too."""
    name: str = request.param
    if name == "kernel":
        if sys.version_info < (3, 13):
            pytest.skip("kernel TLS from Python 3.13 on")
        monkeypatch.setattr(epoll_loop.net.tls, "_kernel_offers", lambda: True)
        monkeypatch.setattr(epoll_loop.net.tls, "_OP_ENABLE_KTLS", ssl.OP_ALL)  # which every context has
    elif name in epoll_loop.net.tls.ENGINES:
        monkeypatch.setattr(epoll_loop.net.tls, "_engine", epoll_loop.net.tls.ENGINES[name])
    else:
        pytest.skip(f"no {name} engine here")
    return name


@pytest.fixture
def server_context() -> ssl.SSLContext:
    return tls.server_context()


@pytest.fixture
def client_context() -> ssl.SSLContext:
    return tls.client_context()


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS1.2", "TLS1.3"])
def version(
    request: pytest.FixtureRequest, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> ssl.TLSVersion:
    """The version that both ends speak."""
    chosen: ssl.TLSVersion = request.param
    for context in (server_context, client_context):
        context.minimum_version = context.maximum_version = chosen
    return chosen


@pytest.fixture(params=[tls.accepted, tls.connected], ids=["accepted", "connected"])
def link(
    request: pytest.FixtureRequest, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> tls.Link:
    """Connections of a server and of a client: `async with link(protocol) as peer`."""
    return functools.partial(request.param, server=server_context, client=client_context)


@pytest.fixture(params=[tls.accepting, tls.connecting], ids=["accepting", "connecting"])
def beginning(
    request: pytest.FixtureRequest, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> tls.Beginning:
    """Handshakes of a server and of a client: `async with beginning(factory) as (peer, who_waits)`."""
    context = server_context if request.param is tls.accepting else client_context
    return functools.partial(request.param, context=context)


@pytest.fixture
async def reports() -> list[dict[str, Any]]:
    """What the loop's exception handler was called with."""
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: found.append(context))
    return found
