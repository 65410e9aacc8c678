"""The tests of this folder run on asyncio's own loop too, which shows that they ask for what asyncio promises."""

import asyncio
import errno
import os
from collections.abc import Callable, Iterator, Mapping

import garbage
import pytest
from children import children, refuse

import epoll_loop
from epoll_loop.core import kernel

kernel._call("getpid")  # libffi, under ctypes, may open a file of its own at the first call, and keep it

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "epoll_loop": epoll_loop.new_event_loop,
    "asyncio": asyncio.SelectorEventLoop,
}


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return LOOPS


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Every test leaves as many children and descriptors as there were before."""
    before = children(), len(os.listdir("/proc/self/fd"))
    yield
    after = children(), len(os.listdir("/proc/self/fd"))
    if after != before:
        garbage.collect()
        after = children(), len(os.listdir("/proc/self/fd"))
    assert after == before


@pytest.fixture(params=["pidfd", "thread"])
def way(request, monkeypatch):
    """The two ways."""
    if request.param == "thread":
        monkeypatch.setattr(kernel, "pidfd_open", refuse(errno.ENOSYS))
    return request.param
