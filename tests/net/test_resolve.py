"""getaddrinfo and getnameinfo: what the socket module says, with a thread only where it could block."""

import asyncio
import itertools
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

HOSTS = ["127.0.0.1", b"127.0.0.1", "127.1", "::1", "fe80::1%1", "0.0.0.0", "::", None]
PORTS = [80, "80", b"80", "", None]


def outcome(call: Callable[..., Any], *args: Any) -> Any:
    try:
        return call(*args)
    except Exception as exc:
        return type(exc), exc.args


async def async_outcome(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return await call(*args, **kwargs)
    except Exception as exc:
        return type(exc), exc.args


@pytest.fixture
def no_thread(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def forbid() -> None:
        def run_in_executor(*args: object) -> None:
            raise AssertionError(f"a thread was asked for: {args}")

        monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", run_in_executor)

    return forbid


@pytest.mark.parametrize(("host", "port"), [pair for pair in itertools.product(HOSTS, PORTS) if pair[0] or pair[1]])
async def test_literal_is_answered_at_once_and_as_by_socket(host: Any, port: Any, no_thread: Any) -> None:
    no_thread()
    loop = asyncio.get_running_loop()
    for type_, flags in [(0, 0), (socket.SOCK_STREAM, 0), (socket.SOCK_STREAM, socket.AI_PASSIVE)]:
        found = await loop.getaddrinfo(host, port, type=type_, flags=flags)
        assert found == socket.getaddrinfo(host, port, type=type_, flags=flags)


async def test_interface_of_a_literal_is_kept(no_thread: Any) -> None:
    no_thread()
    ((*_, address),) = await asyncio.get_running_loop().getaddrinfo("fe80::1%1", 80, type=socket.SOCK_STREAM)
    assert address[3] == 1


@pytest.mark.parametrize(
    "args",
    [
        ("127.0.0.1", 80, socket.AF_INET6),
        ("::1", 80, socket.AF_INET),
        ("127.0.0.1", "no such service"),
        ("::1%nosuchif", 80),
        ("127.0.0.1", 80, 0, 12345),
        ("a" * 70 + ".test", 80),
        ("127.0.0.1", object()),
        (None, None),
        ("localhost", 80, 0, 0, 0, socket.AI_NUMERICHOST),
    ],
)
async def test_errors_are_those_of_socket(args: tuple[Any, ...]) -> None:
    keywords = dict(zip(("family", "type", "proto", "flags"), args[2:], strict=False))
    loop = asyncio.get_running_loop()
    expected = outcome(socket.getaddrinfo, *args)
    assert isinstance(expected, tuple)
    assert await async_outcome(loop.getaddrinfo, args[0], args[1], **keywords) == expected


@pytest.mark.parametrize(("host", "port"), [("localhost", 80), ("127.0.0.1", "http"), ("localhost", "http")])
async def test_name_is_looked_up_as_by_socket(host: str, port: int | str) -> None:
    loop = asyncio.get_running_loop()
    expected = outcome(socket.getaddrinfo, host, port)
    assert await async_outcome(loop.getaddrinfo, host, port) == expected


async def test_name_does_not_block_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    original = socket.getaddrinfo
    asked, answer = asyncio.Event(), threading.Event()

    def slow(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:  # noqa: A002
        if flags & socket.AI_NUMERICHOST:
            return original(host, port, family, type, proto, flags)
        loop.call_soon_threadsafe(asked.set)
        assert answer.wait(30)
        return "the answer"

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    lookup = asyncio.ensure_future(loop.getaddrinfo("some.name", 80))
    await asked.wait()  # never, if the lookup ran in the loop's thread
    answer.set()
    assert await lookup == "the answer"


async def test_getnameinfo_numeric_needs_no_thread(no_thread: Any) -> None:
    no_thread()
    flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    loop = asyncio.get_running_loop()
    assert await loop.getnameinfo(("127.0.0.1", 80), flags) == ("127.0.0.1", "80")
    assert await loop.getnameinfo(("::1", 80, 0, 0), flags) == ("::1", "80")


@pytest.mark.parametrize("flags", [0, socket.NI_NUMERICHOST, socket.NI_NUMERICSERV])
async def test_getnameinfo_is_that_of_socket(flags: int) -> None:
    loop = asyncio.get_running_loop()
    expected = outcome(socket.getnameinfo, ("127.0.0.1", 80), flags)
    assert await async_outcome(loop.getnameinfo, ("127.0.0.1", 80), flags) == expected


async def test_getnameinfo_error_is_that_of_socket() -> None:
    flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    loop = asyncio.get_running_loop()
    expected = outcome(socket.getnameinfo, ("not a number", 80), flags)
    assert await async_outcome(loop.getnameinfo, ("not a number", 80), flags) == expected


async def test_address_keeps_its_flow_label_and_interface() -> None:
    loop: Any = asyncio.get_running_loop()
    ((*_, address),) = await loop._ensure_resolved(("fe80::1", 80, 5, 1))
    assert address == ("fe80::1", 80, 5, 1)
    ((*_, address),) = await loop._ensure_resolved(("127.0.0.1", 80, 5, 1))
    assert address == ("127.0.0.1", 80)
