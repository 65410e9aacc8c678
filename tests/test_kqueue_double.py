"""The double of kqueue(2) does what the manual page says, and what Python's `select` makes of it."""

import errno
import os
import socket
import threading

import pytest
from kqueue_double import (
    KQ_EV_ADD,
    KQ_EV_CLEAR,
    KQ_EV_DELETE,
    KQ_EV_DISABLE,
    KQ_EV_ENABLE,
    KQ_EV_EOF,
    KQ_EV_ERROR,
    KQ_EV_ONESHOT,
    KQ_EV_RECEIPT,
    KQ_FILTER_READ,
    KQ_FILTER_USER,
    KQ_FILTER_WRITE,
    KQ_NOTE_TRIGGER,
    kevent,
    kqueue,
)

EDGE = KQ_EV_ADD | KQ_EV_CLEAR


@pytest.fixture
def queue():
    new = kqueue()
    yield new
    new.close()


@pytest.fixture
def pair():
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        yield ours, peer


@pytest.fixture
def pipe():
    """The two ends; a test that closes one makes a duplicate of it first, for this to close."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def add(queue, ident, filter=KQ_FILTER_READ, flags=EDGE, **more):  # noqa: A002
    assert queue.control([kevent(ident, filter, flags, **more)], 0) == []


def found(queue, most=10, timeout=0):
    return [(event.ident, event.filter, event.data) for event in queue.control(None, most, timeout)]


def test_the_filters_are_apart(queue, pair):
    ours, peer = pair
    add(queue, ours)
    assert found(queue) == []
    add(queue, ours, KQ_FILTER_WRITE)
    assert [event.filter for event in queue.control(None, 10, 0)] == [KQ_FILTER_WRITE]
    peer.send(b"xyz")
    assert found(queue) == [(ours.fileno(), KQ_FILTER_READ, 3)]  # and not the other one again


def test_what_holds_is_reported_as_long_as_it_holds(queue, pair):
    ours, peer = pair
    add(queue, ours, flags=KQ_EV_ADD)
    peer.send(b"xy")
    for left in (2, 1):
        assert found(queue) == [(ours.fileno(), KQ_FILTER_READ, left)]
        ours.recv(1)
    assert found(queue) == []


def test_clear_reports_once_each_time_that_something_happens(queue, pair):
    ours, peer = pair
    add(queue, ours)
    for total in (1, 2):
        peer.send(b"x")
        assert found(queue) == [(ours.fileno(), KQ_FILTER_READ, total)]
        assert found(queue) == []


def test_clear_of_what_was_used_up_meanwhile_is_no_event(queue, pair):
    ours, peer = pair
    add(queue, ours)
    peer.send(b"x")
    ours.recv(1)
    assert found(queue) == []


def test_room_is_reported_after_it_was_short(queue, pair):
    ours, peer = pair
    add(queue, ours, KQ_FILTER_WRITE)
    assert len(found(queue)) == 1
    size = 0
    with pytest.raises(BlockingIOError):
        while True:
            size += ours.send(bytes(65536))
    assert found(queue) == []
    while size:
        size -= len(peer.recv(size))
    assert [(ident, filter_) for ident, filter_, _ in found(queue)] == [(ours.fileno(), KQ_FILTER_WRITE)]


def test_add_reports_the_present_state_once_and_again_when_it_is_repeated(queue, pair):
    ours, peer = pair
    peer.send(b"x")
    for _ in range(2):
        add(queue, ours)
        assert len(found(queue)) == 1
        assert found(queue) == []


def test_a_repeated_add_changes_it(queue, pair):
    ours, peer = pair
    add(queue, ours, udata=1)
    add(queue, ours, flags=KQ_EV_ADD, udata=2)
    peer.send(b"x")
    for _ in range(2):
        assert [event.udata for event in queue.control(None, 10, 0)] == [2]


def test_eof_comes_with_what_is_still_to_be_read(queue, pair):
    ours, peer = pair
    add(queue, ours)
    peer.send(b"xyz")
    assert not queue.control(None, 10, 0)[0].flags & KQ_EV_EOF
    peer.shutdown(socket.SHUT_WR)
    (event,) = queue.control(None, 10, 0)
    assert event.flags & KQ_EV_EOF
    assert event.data == 3
    assert ours.recv(10) == b"xyz"
    assert ours.recv(10) == b""


def test_eof_of_a_pipe_that_nobody_reads_any_more(queue, pipe):
    reader, writer = pipe
    add(queue, writer, KQ_FILTER_WRITE)
    assert not queue.control(None, 10, 0)[0].flags & KQ_EV_EOF
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, reader)
    os.close(null)
    (event,) = queue.control(None, 10, 0)
    assert (event.ident, event.filter) == (writer, KQ_FILTER_WRITE)
    assert event.flags & KQ_EV_EOF


def test_such_a_pipe_can_not_be_added_for_writing(queue, pipe):
    reader, writer = pipe
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, reader)
    os.close(null)
    with pytest.raises(BrokenPipeError):
        add(queue, writer, KQ_FILTER_WRITE)
    add(queue, writer)
    assert queue.control(None, 10, 0)[0].flags & KQ_EV_EOF


@pytest.mark.parametrize("flags", [KQ_EV_DELETE, KQ_EV_ENABLE, KQ_EV_DISABLE])
def test_what_is_not_there_can_not_be_changed(queue, pair, flags):
    with pytest.raises(FileNotFoundError):
        add(queue, pair[0], flags=flags)


def test_what_is_deleted_is_not_reported(queue, pair):
    ours, peer = pair
    add(queue, ours)
    peer.send(b"x")
    add(queue, ours, flags=KQ_EV_DELETE)
    assert found(queue) == []
    with pytest.raises(FileNotFoundError):
        add(queue, ours, flags=KQ_EV_DELETE)


def test_enable_of_what_is_enabled_deletes_and_changes_nothing(queue, pair):
    ours, peer = pair
    add(queue, ours, udata=7)
    add(queue, ours, flags=KQ_EV_ENABLE)
    peer.send(b"x")
    assert [event.udata for event in queue.control(None, 10, 0)] == [7]
    assert found(queue) == []


def test_disabled_and_enabled_again(queue, pair):
    ours, peer = pair
    add(queue, ours)
    add(queue, ours, flags=KQ_EV_DISABLE)
    peer.send(b"x")
    assert found(queue) == []
    add(queue, ours, flags=KQ_EV_ENABLE)
    assert len(found(queue)) == 1


def test_oneshot(queue, pair):
    ours, peer = pair
    add(queue, ours, flags=KQ_EV_ADD | KQ_EV_ONESHOT)
    peer.send(b"x")
    assert len(found(queue)) == 1
    assert found(queue) == []
    with pytest.raises(FileNotFoundError):
        add(queue, ours, flags=KQ_EV_DELETE)


def test_a_closed_number_is_refused(queue, pair):
    fd = pair[0].detach()
    os.close(fd)
    for flags in (KQ_EV_ADD, KQ_EV_DELETE):
        with pytest.raises(OSError) as caught:
            add(queue, fd, flags=flags)
        assert caught.value.errno == errno.EBADF


def test_close_removes_whatever_duplicates_there_are(queue, pair):
    ours, peer = pair
    fd = ours.fileno()
    add(queue, fd, flags=KQ_EV_ADD)
    with ours.dup():
        ours.close()
        peer.send(b"x")
        assert found(queue) == []
        os.dup2(peer.fileno(), fd)  # another file now
        with pytest.raises(FileNotFoundError):
            add(queue, fd, flags=KQ_EV_DELETE)
        os.close(fd)


def test_an_error_is_an_event_where_there_is_a_place_for_it(queue, pair):
    ours, peer = pair
    add(queue, ours)
    peer.send(b"x")
    (event,) = queue.control([kevent(ours, KQ_FILTER_WRITE, KQ_EV_DELETE)], 10, 0)
    assert event.flags & KQ_EV_ERROR
    assert (event.filter, event.data) == (KQ_FILTER_WRITE, errno.ENOENT)
    assert len(found(queue)) == 1  # which that call did not report


def test_a_receipt_for_each_change_and_no_event(queue, pair):
    ours, peer = pair
    peer.send(b"x")
    add(queue, ours)
    changes = [kevent(ours, filter_, KQ_EV_DELETE | KQ_EV_RECEIPT) for filter_ in (KQ_FILTER_WRITE, KQ_FILTER_READ)]
    receipts = queue.control(changes, 2, 0)
    assert [(receipt.filter, receipt.data) for receipt in receipts] == [
        (KQ_FILTER_WRITE, errno.ENOENT),
        (KQ_FILTER_READ, 0),
    ]
    assert all(receipt.flags & KQ_EV_ERROR for receipt in receipts)


def test_the_first_failure_ends_a_call_without_places(queue, pair):
    ours, _ = pair
    with pytest.raises(FileNotFoundError):
        queue.control([kevent(ours, KQ_FILTER_READ, KQ_EV_DELETE), kevent(ours, KQ_FILTER_WRITE, KQ_EV_ADD)], 0)
    assert found(queue) == []


def test_no_more_than_there_are_places_and_each_in_its_turn(queue):
    pairs = [socket.socketpair() for _ in range(3)]
    for ours, _ in pairs:
        add(queue, ours, KQ_FILTER_WRITE, KQ_EV_ADD)
    seen = [found(queue, most=1)[0][0] for _ in range(6)]
    assert seen[:3] == seen[3:]
    assert sorted(seen[:3]) == [ours.fileno() for ours, _ in pairs]
    for sockets in pairs:
        for sock in sockets:
            sock.close()


def test_a_regular_file_is_readable_up_to_its_end(queue, tmp_path):
    (tmp_path / "file").write_bytes(b"xyz")
    with (tmp_path / "file").open("r+b", buffering=0) as file:
        add(queue, file, flags=KQ_EV_ADD)
        assert found(queue) == [(file.fileno(), KQ_FILTER_READ, 3)]
        file.read()
        assert found(queue) == []


def test_a_device_that_is_never_waited_for_is_refused(queue):
    with open(os.devnull) as null, pytest.raises(OSError) as caught:
        add(queue, null)
    assert caught.value.errno == errno.EINVAL


def test_a_user_event_by_another_thread_ends_a_wait_without_timeout(queue):
    add(queue, 7, KQ_FILTER_USER, udata=3)
    assert found(queue) == []
    trigger = kevent(7, KQ_FILTER_USER, 0, KQ_NOTE_TRIGGER)
    thread = threading.Thread(target=queue.control, args=([trigger], 0))
    thread.start()
    assert [(event.ident, event.udata) for event in queue.control(None, 10, None)] == [(7, 3)]
    thread.join()
    assert found(queue) == []


def test_what_comes_ends_a_wait_without_timeout(queue, pair):
    ours, peer = pair
    add(queue, ours)
    thread = threading.Thread(target=peer.send, args=(b"x",))
    thread.start()
    assert found(queue, timeout=None) == [(ours.fileno(), KQ_FILTER_READ, 1)]
    thread.join()


def test_a_timeout_ends_a_wait(queue, pair):
    add(queue, pair[0])
    assert found(queue, timeout=0.001) == []


@pytest.mark.parametrize("arguments", [(None, -1), (None, 1, -1)])
def test_what_can_not_be_is_a_value_error(queue, arguments):
    with pytest.raises(ValueError):
        queue.control(*arguments)


def test_closed(pair):
    queue = kqueue()
    before = len(os.listdir("/proc/self/fd"))
    add(queue, pair[0])
    queue.close()
    queue.close()
    assert len(os.listdir("/proc/self/fd")) < before
    with pytest.raises(ValueError, match="closed"):
        queue.control(None, 1, 0)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of threads that others have left
def test_a_forked_child_does_not_inherit_it(queue):
    pid = os.fork()
    if pid == 0:
        try:
            os.fstat(queue.fileno())
        except OSError as exc:
            os._exit(exc.errno)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == errno.EBADF
    os.fstat(queue.fileno())


def test_kevent_is_what_it_was_made_of():
    event = kevent(3)
    assert event == kevent(3, KQ_FILTER_READ, KQ_EV_ADD, 0, 0, 0)
    assert event != kevent(4)
    assert "ident=3" in repr(event)
