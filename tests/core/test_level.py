"""What poll(2) and select(2) have of their own, besides what every back end promises (test_backends.py)."""

import os
import select
import socket

import pytest
from pollers import watch

from epoll_loop.core.level import Level, new_poll, new_select
from epoll_loop.core.poller import Channel


@pytest.mark.parametrize("new_poller", [new_poll, new_select], ids=["poll", "select"])
def test_a_number_that_is_not_open_any_more_is_forgotten(new_poller, pipe):
    poller = new_poller()
    ours, peer = socket.socketpair()
    reader, _ = pipe()
    channel = watch(poller, ours.fileno())
    closed = watch(poller, reader)
    os.close(reader)
    poller.wait(-1)
    assert not closed.armed
    assert poller.stale == 1
    assert poller.channels() == [channel]
    peer.send(b"x")
    poller.wait(-1)
    assert channel.readable
    poller.close()
    for end in (ours, peer):
        end.close()


def test_select_refuses_a_number_beyond_its_limit(pipe):
    reader, _ = pipe()
    poller = Level(select.select, below=reader)
    with pytest.raises(OSError, match="takes descriptors below"):
        poller.add(Channel(reader), True)
    assert poller.channels() == []
    poller.close()
