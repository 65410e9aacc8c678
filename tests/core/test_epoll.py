"""The back end by itself: one registration, remembered readiness, wake-ups, and descriptors that others have closed."""

import asyncio
import errno
import os
import resource
import select
import socket

import pytest
from pollers import watch
from resources import limited

import epoll_loop
from epoll_loop.core import kernel
from epoll_loop.core.epoll import Epoll
from epoll_loop.core.poller import Channel
from epoll_loop.core.syscalls import EpollSet


@pytest.fixture
def poller():
    new = Epoll()
    yield new
    new.close()


@pytest.fixture
def pair():
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        yield ours, peer


def in_kernel(poller, fd):
    """Whether the kernel has a registration for the number, as /proc shows it."""
    with open(f"/proc/self/fdinfo/{poller.fileno()}") as file:
        return any(line.split()[:2] == ["tfd:", str(fd)] for line in file)


def test_add_and_remove(poller, pair):
    ours, _ = pair
    channel = watch(poller, ours.fileno())
    assert channel.armed
    assert in_kernel(poller, ours.fileno())
    assert poller.lookup(ours.fileno()) is channel
    assert poller.channels() == [channel]
    poller.remove(channel)
    assert not channel.armed
    assert not in_kernel(poller, ours.fileno())
    assert poller.lookup(ours.fileno()) is None
    assert poller.channels() == []
    poller.remove(channel)  # again has no effect


def test_i2_the_batch_is_marked_and_nothing_called(poller, pair):
    ours, peer = pair
    called = []

    class Called(Channel):
        def on_ready(self):
            called.append(self)

    channel = Called(ours.fileno())
    poller.add(channel, True)
    peer.send(b"x")
    poller.wait(-1)
    assert channel.readable
    assert called == []


def test_i3_an_event_for_a_removed_channel_is_dropped(poller, pair):
    ours, peer = pair
    gone = watch(poller, ours.fileno())
    poller.wait(0)
    poller.remove(gone)
    channel = watch(poller, ours.fileno())
    peer.send(b"x")
    poller.wait(-1)
    assert channel.readable
    assert not gone.readable


@pytest.mark.skipif(epoll_loop.COMPILED, reason="what is compiled can not be replaced")
@pytest.mark.parametrize("moment", range(3))
def test_i3_another_thread_gives_a_number_away_during_a_rebuild(poller, pipe, monkeypatch, moment):
    """Before any of the system calls about it: his file is not registered for the old channel."""
    reader, _ = pipe()
    channel = Channel(reader)
    poller.add(channel, False)
    writers = []
    left = [moment]

    def hooked(call):
        def called(self, fd, *args):
            if fd == reader and not writers:
                left[0] -= 1
                if left[0] < 0:
                    os.close(reader)
                    writers.append(pipe(reader)[1])
            return call(self, fd, *args)

        return called

    for name in ("add", "modify", "remove"):
        monkeypatch.setattr(EpollSet, name, hooked(getattr(EpollSet, name)))
    poller.rebuild()
    if not writers:  # it was not that many calls
        os.close(reader)
        writers.append(pipe(reader)[1])
    os.write(writers[0], b"x")
    poller.wait(0)
    assert not channel.readable
    other = watch(poller, reader)
    poller.wait(0)
    assert other.readable


def test_i5_an_event_for_nobody_is_unregistered(poller, pair):
    """Level-triggered, it would keep the loop from sleeping for ever."""
    ours, peer = pair
    peer.send(b"x")
    other = select.epoll.fromfd(os.dup(poller.fileno()))
    with other:
        other.register(ours.fileno(), select.EPOLLIN)
        poller.wait(-1)
        assert not in_kernel(poller, ours.fileno())
        assert other.poll(0) == []


def test_i5_an_event_for_nobody_whose_number_is_closed(poller, pair, pipe):
    """Its description lives on in a duplicate: only a new set is rid of it, and the others move there."""
    ours, peer = pair
    reader, writer = pipe()
    duplicate = os.dup(reader)
    channel = watch(poller, ours.fileno())
    poller.wait(0)
    other = select.epoll.fromfd(os.dup(poller.fileno()))
    with other:
        other.register(reader, select.EPOLLIN)
    os.close(reader)
    os.write(writer, b"x")
    poller.wait(-1)
    assert not in_kernel(poller, reader)
    os.close(duplicate)
    peer.send(b"x")
    poller.wait(-1)
    assert channel.readable


def test_i12_a_regular_file_is_refused_each_time_and_leaves_nothing(poller, tmp_path):
    with (tmp_path / "file").open("w") as file:
        for _ in range(2):
            channel = Channel(file.fileno())
            with pytest.raises(PermissionError):
                poller.add(channel, True)
            assert not channel.armed
            assert poller.channels() == []
            assert poller.lookup(file.fileno()) is None


def test_i19_an_error_sets_both_bits(poller, pipe):
    reader, writer = pipe()
    channel = watch(poller, writer)
    os.close(reader)
    poller.wait(0)
    assert (channel.readable, channel.writable) == (True, True)


def test_i22_a_full_batch_is_not_all_events(poller):
    count = 1500  # more than one epoll_wait(2) reports
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, count + 500)), hard))
    fds = []
    try:
        fds = [kernel.eventfd() for _ in range(count)]
        for fd in fds:
            kernel.eventfd_write(fd, 1)
        channels = [watch(poller, fd) for fd in fds]
        for _ in range(2):
            poller.wait(0)
        assert sum(channel.readable for channel in channels) == count
        for channel in channels:
            poller.remove(channel)
    finally:
        for fd in fds:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_i24_a_full_counter_means_that_it_is_awake(poller):
    (waker,) = [fd for fd in map(int, os.listdir("/proc/self/fd")) if is_eventfd_of(poller, fd)]
    kernel.eventfd_write(waker, 2**64 - 2)
    poller.wake()
    poller.wake()
    poller.wait(-1)


def is_eventfd_of(poller, fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[eventfd]" and in_kernel(poller, fd)
    except FileNotFoundError:
        return False


def test_close_leaves_other_peoples_descriptors_open(pair):
    ours, _ = pair
    poller = Epoll()
    channel = watch(poller, ours.fileno())
    before = len(os.listdir("/proc/self/fd"))
    poller.close()
    assert not channel.armed
    os.fstat(ours.fileno())
    assert len(os.listdir("/proc/self/fd")) == before - 2  # the set and the eventfd
    poller.remove(channel)  # late, and without effect


def test_adopt_hands_the_registration_and_the_readiness_on(poller, pair):
    ours, peer = pair
    old = watch(poller, ours.fileno())
    peer.send(b"x")
    poller.wait(-1)
    new = Channel(ours.fileno())
    poller.adopt(new, old)
    assert new.armed
    assert not old.armed
    assert new.readable
    assert new.writable
    assert poller.channels() == [new]
    poller.wait(0)  # no system call: the kernel says nothing again
    poller.remove(old)
    assert poller.channels() == [new]
    poller.remove(new)
    assert not in_kernel(poller, ours.fileno())


# --- descriptors that were closed behind our back


def test_removing_a_closed_number_whose_duplicate_lives(poller, pair, pipe):
    ours, peer = pair
    reader, writer = pipe()
    channel = watch(poller, ours.fileno())
    closed = watch(poller, reader)
    duplicate = os.dup(reader)
    poller.wait(0)
    os.close(reader)
    poller.remove(closed)
    assert poller.channels() == [channel]
    assert not in_kernel(poller, reader)
    os.write(writer, b"x")
    peer.send(b"x")
    poller.wait(-1)
    assert channel.readable
    assert not closed.readable
    os.close(duplicate)


def test_what_a_duplicate_reports_when_no_descriptor_was_left_for_a_new_set(loop, pipe):
    """The number is another file's, whose callback is not called for the old one."""
    reader, writer = pipe()
    loop.add_reader(reader, print)
    duplicate = os.dup(reader)
    os.close(reader)
    again, new_writer = pipe(reader)
    calls = []
    with limited(0):
        loop.add_reader(again, calls.append, "called")
    os.write(writer, b"for the old one")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert calls == []
    os.write(new_writer, b"x")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert calls == ["called"]
    loop.remove_reader(again)
    os.close(duplicate)


def test_who_is_woken_by_a_rebuild_that_was_put_off(loop, pair, pipe):
    """The loop does not go to sleep with a coroutine to run."""
    ours, _ = pair

    async def main():
        receiving = asyncio.ensure_future(loop.sock_recv(ours, 1))
        await asyncio.sleep(0)
        reader, _ = pipe()
        loop.add_reader(reader, print)
        duplicate = os.dup(reader)
        os.close(reader)
        again, _ = pipe(reader)
        with limited(0):
            loop.add_reader(again, print)
        ours.close()
        with pytest.raises(OSError, match="Bad file"):
            await receiving
        loop.remove_reader(again)
        os.close(duplicate)

    loop.run_until_complete(main())


@pytest.mark.skipif(epoll_loop.COMPILED, reason="what is compiled can not be replaced")
@pytest.mark.parametrize("exc", [OSError(errno.ENOSPC, "no watches left"), KeyboardInterrupt()], ids=repr)
def test_a_rebuild_that_fails_half_way_loses_nobody(poller, pair, monkeypatch, exc):
    """Everything counts twice for as long as there are two sets: see max_user_watches of epoll(7)."""
    ours, peer = pair
    channel = watch(poller, ours.fileno())
    poller.wait(0)
    add = EpollSet.add
    errors = [exc] * (1 if isinstance(exc, KeyboardInterrupt) else 9)

    def fail(self, fd, mask):
        if fd == ours.fileno() and errors:
            raise errors.pop()
        add(self, fd, mask)

    monkeypatch.setattr(EpollSet, "add", fail)
    try:
        poller.rebuild()
    except KeyboardInterrupt:
        pass
    assert channel.armed
    peer.send(b"x")
    poller.wait(-1)
    assert channel.readable
    monkeypatch.undo()
    poller.wait(0)  # now it is made up for
    assert in_kernel(poller, ours.fileno())
    poller.remove(channel)


def test_removing_a_number_that_is_a_regular_file_now(poller, pipe, tmp_path):
    reader, _ = pipe()
    channel = watch(poller, reader)
    os.close(reader)
    with (tmp_path / "file").open("w") as file:
        os.dup2(file.fileno(), reader)
    poller.remove(channel)
    assert poller.channels() == []


def test_rebuild_keeps_what_is_open_and_loses_no_edge(poller, pair):
    ours, peer = pair
    channel = watch(poller, ours.fileno())
    poller.wait(0)
    peer.send(b"x")
    poller.rebuild()
    assert channel.armed
    poller.wait(-1)
    assert channel.readable
    poller.wake()
    poller.wait(-1)


def test_rebuild_does_not_register_somebody_elses_descriptor(poller, pipe):
    """The number was given out again, to somebody who has never told us: it is not for the old channel."""
    reader, _ = pipe()
    channel = watch(poller, reader)
    os.close(reader)
    again, writer = pipe(reader)
    poller.rebuild()
    assert not in_kernel(poller, again)
    assert not channel.armed
    os.write(writer, b"x")
    poller.wait(0)
    assert not channel.readable


def test_rebuild_costs_no_descriptor(poller, pair):
    watch(poller, pair[0].fileno())
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        poller.rebuild()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_forked_poller_touches_nothing(poller, pair, pipe):
    """The set is shared with the parent, who goes on with it."""
    ours, _ = pair
    channel = watch(poller, ours.fileno())
    poller.forked = True
    poller.remove(channel)
    assert in_kernel(poller, ours.fileno())
    reader, _ = pipe()
    with pytest.raises(RuntimeError):
        poller.add(Channel(reader), True)
    assert not in_kernel(poller, reader)
