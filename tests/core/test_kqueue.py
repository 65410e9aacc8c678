"""What the kqueue back end has of its own: two filters for a number, and EV_RECEIPT for what they came to."""

import errno
import os
import select

import pytest
from pollers import watch
from resources import limited

import epoll_loop
from epoll_loop.core.poller import READ, WRITE, Channel

if hasattr(select, "kqueue"):
    from epoll_loop.core.kqueue import Kqueue

    kqueue = None
else:
    import kqueue_double

    with kqueue_double.installed():
        from epoll_loop.core.kqueue import Kqueue

    kqueue = kqueue_double.kqueue

on_the_double = pytest.mark.skipif(
    kqueue is None or epoll_loop.COMPILED, reason="neither a kernel nor what is compiled can be interfered with"
)


@pytest.fixture
def poller():
    new = Kqueue()
    yield new
    new.close()


def level(poller, fd, interest):
    """Register a descriptor, level-triggered, and return its channel."""
    channel = Channel(fd)
    channel.interest = interest
    poller.add(channel, False)
    return channel


def test_kqueue_deletes_nothing_of_the_next_owners(poller, pipe):
    reader, _ = pipe()
    channel = watch(poller, reader)
    os.close(reader)
    again, writer = pipe(reader)
    poller.remove(channel)  # ENOENT, twice
    new = watch(poller, again)
    os.write(writer, b"x")
    poller.wait(-1)
    assert new.readable


def test_kqueue_refuses_a_device_as_epoll_does(poller):
    with open(os.devnull) as null, pytest.raises(PermissionError):
        poller.add(Channel(null.fileno()), True)
    assert poller.channels() == []


@on_the_double
def test_a_filter_that_a_file_has_not_got_costs_no_other(poller, pipe, monkeypatch):
    reader, writer = pipe()
    attach = kqueue._attach

    def refuse(self, knote):
        return errno.EINVAL if knote.filter == kqueue_double.KQ_FILTER_WRITE else attach(self, knote)

    monkeypatch.setattr(kqueue, "_attach", refuse)
    channel = level(poller, reader, READ)
    channel.interest = READ | WRITE
    assert poller.modify(channel)
    os.write(writer, b"x")
    poller.wait(-1)
    assert channel.readable


@on_the_double
@pytest.mark.parametrize("moment", range(6))
@pytest.mark.parametrize("verb", ["modify", "rebuild"])
def test_another_thread_gives_a_number_away(poller, pipe, monkeypatch, verb, moment):
    """Before any of the calls about it: his file is not registered for the old channel."""
    reader, _ = pipe()
    channel = level(poller, reader, READ)
    writers = []
    left = [moment]
    real = kqueue.control

    def control(self, changes, *rest):
        if not writers and any(change.ident == reader for change in changes or ()):
            left[0] -= 1
            if left[0] < 0:
                os.close(reader)
                writers.append(pipe(reader)[1])
        return real(self, changes, *rest)

    monkeypatch.setattr(kqueue, "control", control)
    channel.interest = READ | WRITE
    getattr(poller, verb)(*[channel] if verb == "modify" else [])
    monkeypatch.undo()
    if not writers:  # it was not that many calls
        os.close(reader)
        writers.append(pipe(reader)[1])
    os.write(writers[0], b"x")
    poller.wait(0)
    assert not channel.readable
    other = watch(poller, reader)
    poller.wait(0)
    assert other.readable


def test_no_descriptor_for_a_new_queue(poller, pair):
    """It is made up for: nothing is lost that the old one has told of and nobody has noted."""
    ours, peer = pair
    channel = watch(poller, ours.fileno())
    poller.wait(0)
    peer.send(b"x")
    with limited(0):
        poller.recover()
        poller.wait(0)
    poller.wait(-1)
    assert channel.readable
