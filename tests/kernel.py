"""What the tests of kernel facts share: epoll's words, and waiting for what the kernel shows."""

import contextlib
import select
import socket
from collections.abc import Callable

from epoll_loop.core.kernel import EPOLLRDHUP, eventfd, eventfd_write

IN, OUT, RDHUP, ERR, HUP, ET = (
    select.EPOLLIN,
    select.EPOLLOUT,
    EPOLLRDHUP,
    select.EPOLLERR,
    select.EPOLLHUP,
    select.EPOLLET,
)
INTEREST = IN | OUT | RDHUP | ET
WAIT = 10  # seconds, an upper bound for an event that must come


def register(ep: select.epoll, fd: int, mask: int = INTEREST) -> None:
    """ADD, and take the report of the present state out of the way."""
    ep.register(fd, mask)
    ep.poll(0)


def counter(value: int) -> int:
    """The descriptor of an eventfd."""
    fd = eventfd()
    eventfd_write(fd, value)
    return fd


def fence(fd: int, mask: int) -> None:
    """Wait, level-triggered, until the kernel shows every bit of mask for fd."""
    poll = select.poll()
    poll.register(fd, mask)
    while mask & ~dict(poll.poll(WAIT * 1000))[fd]:
        pass


def fill(send: Callable[[], object]) -> None:
    """Send until EAGAIN."""
    with contextlib.suppress(BlockingIOError):
        while True:
            send()


def read_all(sock: socket.socket) -> None:
    """Receive until EAGAIN."""
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.recv(1)
