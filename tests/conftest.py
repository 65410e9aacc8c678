"""What every test has: our loop under the async tests, and a `loop` fixture that looks for leaks."""

import asyncio
import importlib
import os
import re
import select
import signal
import sys
from collections.abc import Callable, Iterator, Mapping

import garbage
import pytest
from resources import open_fds

import epoll_loop

# The tests run on any back end, and on kqueue by a double of it where the system has none. That is there for our loop
# alone: asyncio, which is imported already, has chosen what it polls with.
BACKEND = os.environ.get("EPOLL_LOOP_POLLER", "")
WITH_DOUBLE = BACKEND == "kqueue" and not hasattr(select, "kqueue")
if WITH_DOUBLE:
    import kqueue_double

    kqueue_double.install()
POLLER = importlib.import_module("epoll_loop.core.backend").POLLER  # decided now, with the double there


def pytest_configure(config: pytest.Config) -> None:
    """Have SIGINT raise KeyboardInterrupt, here and in children: a shell starts its background jobs with it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if WITH_DOUBLE and (hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None)):
        del os.environ["EPOLL_LOOP_POLLER"]  # programs that the tests start have no double


def pytest_report_header() -> str:
    build = "compiled" if epoll_loop.COMPILED else "pure"
    return f"epoll_loop: {build} build on {POLLER}, {epoll_loop.__file__}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What runs on asyncio's own loop is the same in both builds and on every back end: once is enough."""
    if not epoll_loop.COMPILED or BACKEND:
        asyncio_too = {item for item in items if re.search(r"[\[-]asyncio[\]-]", item.name)}
        config.hook.pytest_deselected(items=list(asyncio_too))
        items[:] = [item for item in items if item not in asyncio_too]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """What a test may leave to the collector goes while the warnings of it are still ignored."""
    result = yield
    if item.get_closest_marker("filterwarnings"):
        garbage.let_go()
    return result


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """pytest-asyncio's way to choose a loop, on every Python (policies go away in 3.16)."""
    return {"epoll_loop": epoll_loop.new_event_loop}


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A new loop, closed at the end, when as many descriptors have to be open as before."""
    if garbage.COUNTED:
        garbage.collect()  # what an earlier test left to the collector is not ours
    before = open_fds()
    new = epoll_loop.new_event_loop()
    try:
        yield new
    finally:
        new.close()
    if garbage.COUNTED or len(open_fds()) > len(before):
        garbage.collect()
    after = open_fds()
    # PyPy's collector is too slow to run twice for every test: what an earlier one left may go meanwhile.
    right = len(after) == len(before) if garbage.COUNTED else len(after) <= len(before)
    assert right, f"descriptors: {before} before, {after} after, on {sys.version}"


@pytest.fixture
def no_descriptor_left() -> Iterator[None]:
    """The test, and the loop, close what they open."""
    before = os.listdir("/proc/self/fd")
    yield
    after = os.listdir("/proc/self/fd")
    if len(after) > len(before):
        garbage.collect()
        after = os.listdir("/proc/self/fd")
    assert len(after) <= len(before)


@pytest.fixture
def ep() -> Iterator[select.epoll]:
    with select.epoll() as epoll:
        yield epoll


@pytest.fixture
def replace_sendfile(monkeypatch):
    """Puts another sendfile(2) in place, or none, for asyncio's loop and for this one, which has bound it."""

    def replace(call):
        monkeypatch.setattr("epoll_loop.net.sendfile._sendfile", call)
        if call is None:
            monkeypatch.delattr(os, "sendfile")
        else:
            monkeypatch.setattr(os, "sendfile", call)

    return replace
