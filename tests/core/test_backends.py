"""What every back end promises, by itself: see `core/poller.py`. Kqueue's is the double where the system has none."""

import asyncio
import os
import select
import socket
import threading
import weakref

import garbage
import pytest
from pollers import watch

import epoll_loop
from epoll_loop.core.level import Level, new_poll, new_select
from epoll_loop.core.poller import Channel

if hasattr(select, "kqueue"):
    from epoll_loop.core.kqueue import Kqueue
else:
    import kqueue_double

    with kqueue_double.installed():
        from epoll_loop.core.kqueue import Kqueue

BACKENDS = {"kqueue": Kqueue, "poll": new_poll, "select": new_select}
if hasattr(select, "epoll"):
    from epoll_loop.core.epoll import Epoll

    BACKENDS["epoll"] = Epoll


@pytest.fixture(params=BACKENDS.values(), ids=BACKENDS)
def new_poller(request):
    """Makes pollers of one kind."""
    return request.param


@pytest.fixture
def poller(new_poller):
    new = new_poller()
    yield new
    new.close()


@pytest.fixture
def pair():
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        yield ours, peer


def state(channel):
    return channel.readable, channel.writable, channel.ended


def test_add_and_remove(poller, pair):
    ours, peer = pair
    channel = watch(poller, ours.fileno())
    assert channel.armed
    assert poller.lookup(ours.fileno()) is channel
    assert poller.channels() == [channel]
    poller.remove(channel)
    assert not channel.armed
    assert poller.lookup(ours.fileno()) is None
    assert poller.channels() == []
    peer.send(b"x")
    poller.wait(0)
    assert not channel.readable
    assert poller.stale == 0
    poller.remove(channel)  # again has no effect


def test_i1_a_number_has_one_registration(poller, pair):
    ours, peer = pair
    channel = watch(poller, ours.fileno())
    for edge in (True, False):
        with pytest.raises(FileExistsError):
            poller.add(Channel(ours.fileno()), edge)
    assert poller.lookup(ours.fileno()) is channel
    assert channel.armed
    poller.wait(0)
    peer.send(b"x")
    poller.wait(-1)
    assert channel.readable


def test_i11_add_reports_what_came_before(poller, pair):
    ours, peer = pair
    peer.send(b"x")
    channel = watch(poller, ours.fileno())
    assert state(channel) == (False, False, False)
    poller.wait(-1)
    assert state(channel)[:2] == (True, True)


@pytest.mark.parametrize(
    ("event", "readable"),
    [
        (lambda peer: None, False),
        (lambda peer: peer.send(b"x"), True),
        (lambda peer: peer.shutdown(socket.SHUT_WR), True),
        (lambda peer: peer.close(), True),
    ],
    ids=["open", "data", "half-closed", "closed"],
)
def test_i15_each_bit_on_its_own(poller, pair, event, readable):
    ours, peer = pair
    event(peer)
    channel = watch(poller, ours.fileno())
    poller.wait(0)
    assert (channel.readable, channel.writable) == (readable, True)


def test_i14_the_end_is_seen_with_bytes_still_to_be_read(poller, pair):
    """Or the kernel says again that there is something to read, once all of them are."""
    ours, peer = pair
    peer.send(b"x")
    peer.shutdown(socket.SHUT_WR)
    channel = watch(poller, ours.fileno())
    poller.wait(0)
    assert channel.readable
    assert channel.ended or type(poller) is Level


def sleeps_until_woken(poller):
    thread = threading.Thread(target=poller.wait, args=(-1,))
    thread.start()
    thread.join(0.05)
    asleep = thread.is_alive()
    poller.wake()
    thread.join(30)
    assert not thread.is_alive()
    return asleep


def test_what_is_remembered_is_not_said_again(poller, pair):
    ours, peer = pair
    channel = watch(poller, ours.fileno())
    peer.send(b"x")
    peer.shutdown(socket.SHUT_RDWR)
    while not (channel.readable and channel.writable):
        poller.wait(-1)
    assert sleeps_until_woken(poller)


@pytest.mark.parametrize("before", [True, False], ids=["before add", "after add"])
def test_i19_a_pipe_that_nobody_reads_any_more(poller, pipe, before):
    reader, writer = pipe()
    if before:
        os.close(reader)
    channel = watch(poller, writer)
    poller.wait(0)
    if not before:
        assert not channel.ended
        os.close(reader)
    poller.wait(-1 if not before else 0)
    assert state(channel) == (True, True, True)


def test_i24_wake_ends_a_wait_that_comes_later(poller):
    for _ in range(3):
        poller.wake()
        poller.wait(-1)


def test_i24_wake_ends_a_wait_in_another_thread(poller):
    thread = threading.Thread(target=poller.wait, args=(-1,))
    thread.start()
    poller.wake()
    thread.join(30)
    assert not thread.is_alive()


def test_i24_any_number_of_wakes_does_not_block(poller):
    for _ in range(5000):
        poller.wake()
    for _ in range(3):
        poller.wait(0)
    assert sleeps_until_woken(poller)


def test_wake_of_a_closed_poller_does_nothing(new_poller):
    poller = new_poller()
    poller.close()
    pipes = [os.pipe() for _ in range(3)]  # these have the numbers that it had
    poller.wake()
    for reader, writer in pipes:
        os.set_blocking(reader, False)
        with pytest.raises(BlockingIOError):
            os.read(reader, 100)
        os.close(reader)
        os.close(writer)


def test_close_leaves_other_peoples_descriptors_open(new_poller, pair):
    before = len(os.listdir("/proc/self/fd"))
    poller = new_poller()
    channel = watch(poller, pair[0].fileno())
    poller.close()
    assert not channel.armed
    os.fstat(pair[0].fileno())
    assert len(os.listdir("/proc/self/fd")) == before
    poller.remove(channel)  # late, and without effect


def test_a_closed_poller_keeps_no_channel(new_poller, pair):
    poller = new_poller()
    channel = watch(poller, pair[0].fileno())
    poller.wait(0)
    gone = weakref.ref(channel)
    poller.close()
    del channel
    garbage.let_go()
    assert gone() is None


def test_adopt_hands_the_registration_and_the_readiness_on(poller, pair):
    ours, peer = pair
    old = watch(poller, ours.fileno())
    peer.send(b"x")
    poller.wait(-1)
    new = Channel(ours.fileno())
    poller.adopt(new, old)
    assert new.armed
    assert not old.armed
    assert state(new)[:2] == (True, True)
    assert poller.channels() == [new]
    poller.remove(old)
    assert poller.channels() == [new]
    poller.remove(new)
    assert poller.channels() == []


def test_a_closed_descriptor_is_refused_and_leaves_nothing(poller, pipe):
    reader, _ = pipe()
    os.close(reader)
    channel = Channel(reader)
    with pytest.raises(OSError, match="Bad file descriptor"):
        poller.add(channel, True)
    assert not channel.armed
    assert poller.channels() == []


# --- descriptors that were closed behind our back


def test_removing_a_closed_number(poller, pair, pipe):
    ours, peer = pair
    reader, _ = pipe()
    channel = watch(poller, ours.fileno())
    closed = watch(poller, reader)
    poller.wait(0)
    os.close(reader)
    poller.remove(closed)
    assert poller.channels() == [channel]
    peer.send(b"x")
    poller.wait(-1)
    assert channel.readable


def test_a_number_that_the_kernel_gives_out_again_displaces_its_old_channel(poller, pipe):
    reader, _ = pipe()
    old = watch(poller, reader)
    duplicate = os.dup(reader)
    os.close(reader)
    again, writer = pipe(reader)
    new = watch(poller, again)
    assert poller.channels() == [new]
    assert not old.armed
    os.write(writer, b"x")
    poller.wait(-1)
    assert new.readable
    assert not old.readable
    os.close(duplicate)


def test_what_a_duplicate_reports_is_not_for_the_next_owner(poller, pipe):
    """The worst bug that a loop can have: events of one connection for another one."""
    reader, writer = pipe()
    old = watch(poller, reader)
    duplicate = os.dup(reader)
    os.close(reader)
    again, _ = pipe(reader)
    new = watch(poller, again)
    poller.wait(0)
    os.write(writer, b"for the old one")
    poller.wait(0)
    assert not new.readable
    assert not old.readable
    os.close(duplicate)


def test_recover_has_everything_reported_again(poller, pair, pipe):
    ours, peer = pair
    channel = watch(poller, ours.fileno())
    poller.wait(0)
    peer.send(b"x")
    poller.recover()
    assert channel.armed
    poller.wait(-1)
    assert channel.readable
    poller.wake()
    poller.wait(-1)
    reader, writer = pipe()
    later = watch(poller, reader)
    os.write(writer, b"x")
    poller.wait(-1)
    assert later.readable


def test_recover_forgets_what_was_marked_for_a_watch(loop, pair):
    """The kernel says again what is still true."""
    ours, peer = pair
    calls = []
    loop.add_reader(ours, calls.append, "called")
    peer.send(b"x")
    loop._poller.wait(-1)
    ours.recv(1)
    loop._poller.recover()
    turn(loop)
    turn(loop)
    assert calls == []


def test_recover_costs_no_descriptor(poller, pair):
    watch(poller, pair[0].fileno())
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        poller.recover()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_forked_poller_takes_nothing_on(poller, pair):
    poller.forked = True
    with pytest.raises(RuntimeError, match="parent"):
        poller.add(Channel(pair[0].fileno()), True)
    assert poller.channels() == []


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of threads that others have left
def test_a_forked_child_closes_nobody_elses_descriptors(new_poller, pair):
    """A kqueue is not inherited: the number that it had in the parent may be another file's in the child."""
    garbage.collect()  # what other tests have left would be closed in the child, by numbers that others have by then
    ours, peer = pair
    poller = new_poller()
    channel = watch(poller, ours.fileno())
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(9)]  # among these is that number
            poller.after_fork()
            poller.close()
            del poller, channel
            garbage.collect()
            for fd in fds:
                os.fstat(fd)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert status == 0
    poller.wait(0)
    peer.send(b"x")
    poller.wait(-1)
    assert channel.readable
    poller.close()


# --- on a loop: level-triggered registrations, and what keeps it awake


@pytest.fixture
def loop(new_poller):
    new = epoll_loop.Loop()
    new._poller.close()
    new._poller = new_poller()
    yield new
    new.close()


def turn(loop):
    loop.stop()
    loop.run_forever()


@pytest.mark.parametrize("before", [True, False], ids=["before add", "after add"])
def test_a_writer_of_a_pipe_that_nobody_reads_is_called_again_and_again(loop, pipe, before):
    reader, writer = pipe()
    os.set_blocking(writer, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writer, bytes(65536))
    calls = []
    if before:
        os.close(reader)
    loop.add_writer(writer, lambda: calls.append(1) or (len(calls) == 3 and loop.stop()))
    if not before:
        turn(loop)
        assert calls == []
        os.close(reader)
    loop.run_forever()
    assert len(calls) == 3
    assert loop.remove_writer(writer)


def test_a_regular_file_is_refused_and_leaves_nothing(loop, tmp_path):
    (tmp_path / "file").touch()
    for _ in range(2):
        with (tmp_path / "file").open("rb", buffering=0) as file, pytest.raises(PermissionError):
            loop.add_reader(file, print)
    assert loop._poller.channels() == []


def test_a_reopened_number_is_not_the_old_readers(loop, pipe):
    reader, _ = pipe()
    calls = []
    loop.add_reader(reader, calls.append, "the old owner's")
    os.close(reader)
    again, writer = pipe(reader)
    os.write(writer, b"x")
    turn(loop)
    assert calls == []
    loop.add_reader(again, lambda: calls.append("the new owner's") or loop.stop())
    loop.run_forever()
    assert calls == ["the new owner's"]


def test_recover_does_not_register_somebody_elses_descriptor(loop, pipe):
    """The number was given out again, to somebody who has never told us: it is not for the old channel."""
    reader, _ = pipe()
    calls = []
    loop.add_reader(reader, calls.append, "the old owner's")
    os.close(reader)
    _, writer = pipe(reader)
    loop._poller.recover()
    os.write(writer, b"x")
    turn(loop)
    assert calls == []


def test_recover_forgets_no_readiness(loop, pair):
    """What was on its way to the protocol comes all the same."""
    ours, peer = pair

    class Received(asyncio.Protocol):
        data = b""

        def data_received(self, data):
            self.data += data

    transport, protocol = loop.run_until_complete(loop.create_connection(Received, sock=ours))
    transport.pause_reading()
    peer.send(b"x")
    turn(loop)
    turn(loop)
    transport.resume_reading()
    loop._poller.recover()
    for _ in range(3):
        turn(loop)
    assert protocol.data == b"x"
    transport.close()
    turn(loop)


def test_a_pipe_without_a_reader_is_asked_for_twice(loop, pipe):
    """Kqueue refuses to wait for that, and takes reading for it, which says EOF."""
    reader, writer = pipe()
    os.close(reader)
    calls = []
    loop.add_writer(writer, calls.append, "first")
    loop.add_writer(writer, lambda: calls.append("second") or loop.remove_writer(writer))
    turn(loop)
    turn(loop)
    assert calls == ["second"]


def test_half_of_a_watch_goes_and_comes_back(loop, pair):
    ours, peer = pair
    calls = []
    loop.add_reader(ours, lambda: calls.append(ours.recv(1)))
    loop.add_writer(ours, lambda: calls.append("room"))
    loop.remove_writer(ours)
    peer.send(b"x")
    turn(loop)
    turn(loop)
    assert calls == [b"x"]
    loop.add_writer(ours, lambda: calls.append("room") or loop.stop())
    loop.run_forever()
    assert "room" in calls
