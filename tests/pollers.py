"""Which back end the tests run on (`EPOLL_LOOP_POLLER` chooses), and what those of a back end by itself share."""

import pytest

from epoll_loop.core.backend import POLLER
from epoll_loop.core.poller import Channel

EDGES = POLLER in ("epoll", "kqueue")  # the others say it again
epoll_only = pytest.mark.skipif(POLLER != "epoll", reason=f"what epoll does, and this is {POLLER}")


def watch(poller, fd):
    """Register a descriptor, edge-triggered, and return its channel."""
    channel = Channel(fd)
    poller.add(channel, True)
    return channel
