"""Many short tests, each of which collects garbage to see what a loop leaves behind."""

import gc
import os
import socket
from collections.abc import Iterator

import garbage
import pytest
from halves import pure_half

from epoll_loop.core import syscalls


@pytest.fixture(scope="package", autouse=True)
def _imported_modules_are_no_garbage() -> Iterator[None]:
    """The collector leaves alone what is there before the first test: it would be most of the time of all tests."""
    garbage.collect()
    if hasattr(gc, "freeze"):
        gc.freeze()
    yield
    if hasattr(gc, "unfreeze"):
        gc.unfreeze()


@pytest.fixture(params=["running", "pure"])
def half(request):
    """The half of the build that runs, and the pure one: the same twice in the pure build."""
    return syscalls if request.param == "running" else pure_half()


@pytest.fixture
def pair():
    """Blocking sockets, as a stranger's may be: a callback that comes without data hangs."""
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.settimeout(20)
        peer.settimeout(20)
        yield ours, peer


@pytest.fixture
def pipe():
    """Makes pipes, on request with a given number for the reader, and closes at the end what the test has left open."""
    made = []

    def make(number=None):
        reader, writer = os.pipe()
        if number not in (None, reader):  # the kernel takes the lowest free one, which may be lower
            if writer == number:
                writer = os.dup(writer)
            os.dup2(reader, number)
            os.close(reader)
            reader = number
        made.extend((fd, os.fstat(fd).st_ino) for fd in (reader, writer))
        return reader, writer

    yield make
    for fd, inode in made:
        try:
            if os.fstat(fd).st_ino == inode:  # and not somebody else's by now
                os.close(fd)
        except OSError:
            pass
