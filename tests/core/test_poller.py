"""Foreign descriptors: add_reader() and add_writer() keep asyncio's level-triggered promise (I10)."""

import asyncio
import contextvars
import errno
import os
import socket

import pytest

import epoll_loop

# What asyncio promises is asked of asyncio's own loop too: it proves the test right.
BOTH = pytest.mark.parametrize(
    "loop", [asyncio.SelectorEventLoop, epoll_loop.new_event_loop], ids=["asyncio", "epoll_loop"], indirect=True
)


@pytest.fixture
def loop(request):
    new = getattr(request, "param", epoll_loop.new_event_loop)()
    yield new
    new.close()


def turn(loop):
    """One iteration, without waiting; a second one for loops that only queue in the first."""
    for _ in range(2):
        loop.stop()
        loop.run_forever()


@BOTH
def test_called_again_while_there_is_something_to_read(loop, pair):
    ours, peer = pair
    got = bytearray()

    def read():
        got.extend(ours.recv(1))
        if len(got) == 10:
            loop.stop()

    loop.add_reader(ours, read)
    peer.send(b"0123456789")
    loop.run_forever()
    assert got == b"0123456789"
    turn(loop)
    assert got == b"0123456789"


@BOTH
def test_called_again_while_there_is_room_to_write(loop, pair):
    ours, _ = pair
    calls = []

    def write():
        calls.append(1)
        if len(calls) == 5:
            loop.stop()

    loop.add_writer(ours, write)
    loop.run_forever()
    assert len(calls) == 5


@BOTH
def test_not_called_for_nothing(loop, pair):
    ours, _ = pair
    calls = []
    loop.add_reader(ours, calls.append, 1)
    turn(loop)
    assert calls == []


@BOTH
def test_arguments_are_handed_on(loop, pair):
    ours, peer = pair
    calls = []
    loop.add_reader(ours, lambda *args: calls.append(args) or loop.stop(), 1, "two")
    peer.send(b"x")
    loop.run_forever()
    assert calls[0] == (1, "two")


@BOTH
def test_a_new_callback_replaces_the_old_one(loop, pair):
    ours, peer = pair
    calls = []
    loop.add_reader(ours, calls.append, "old")
    loop.add_reader(ours, lambda: calls.append("new") or loop.stop())
    loop.add_writer(ours, calls.append, "old writer")
    loop.add_writer(ours, calls.append, "new writer")
    peer.send(b"x")
    loop.run_forever()
    assert "new" in calls
    assert "new writer" in calls
    assert not {"old", "old writer"} & set(calls)


@BOTH
def test_remove_says_whether_there_was_one(loop, pair):
    ours, peer = pair
    assert not loop.remove_reader(ours)
    assert not loop.remove_writer(ours)
    loop.add_reader(ours, print)
    assert not loop.remove_writer(ours)
    assert loop.remove_reader(ours)
    assert not loop.remove_reader(ours)
    loop.add_writer(ours, print)
    assert not loop.remove_reader(ours)
    assert loop.remove_writer(ours)
    assert not loop.remove_writer(ours)
    peer.send(b"x")
    turn(loop)


@BOTH
@pytest.mark.parametrize("kept", ["reader", "writer"])
def test_one_half_goes_and_the_other_stays(loop, pair, kept):
    ours, peer = pair
    calls = []
    loop.add_reader(ours, lambda: calls.append("reader") or loop.stop())
    loop.add_writer(ours, lambda: calls.append("writer") or loop.stop())
    peer.send(b"x")
    if kept == "reader":
        loop.remove_writer(ours)
    else:
        loop.remove_reader(ours)
    for _ in range(3):
        loop.run_forever()
    assert set(calls) == {kept}


@BOTH
def test_a_writer_that_is_called_all_the_time_does_not_call_the_reader(loop, pair):
    ours, peer = pair
    calls = []
    loop.add_reader(ours, lambda: calls.append(ours.recv(1)))
    loop.add_writer(ours, lambda: calls.append("writer") if calls.count("writer") < 5 else loop.stop())
    peer.send(b"x")
    loop.run_forever()
    assert calls.count(b"x") == 1


@BOTH
def test_removed_by_a_callback_of_the_same_batch(loop, pair):
    """Whichever comes first removes the other one, which is not called any more."""
    ours, peer = pair
    calls = []

    def callback(mine, others):
        calls.append(mine)
        loop.remove_reader(others)

    loop.add_reader(ours, callback, ours, peer)
    loop.add_reader(peer, callback, peer, ours)
    ours.send(b"x")
    peer.send(b"x")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert len(calls) <= 1
    turn(loop)
    assert len(set(calls)) == 1


@BOTH
def test_a_reader_may_remove_the_writer_of_the_same_descriptor(loop, pair):
    ours, peer = pair
    calls = []

    def reader():
        calls.append("reader")
        loop.remove_writer(ours)
        loop.remove_reader(ours)

    loop.add_writer(ours, calls.append, "writer")
    loop.remove_writer(ours)
    loop.add_reader(ours, reader)
    loop.add_writer(ours, calls.append, "writer")
    peer.send(b"x")
    turn(loop)
    assert calls == ["reader"]


@BOTH
def test_the_end_of_a_pipe_is_something_to_read(loop, pipe):
    reader, writer = pipe()
    calls = []
    loop.add_reader(reader, lambda: calls.append(os.read(reader, 1)) or loop.stop())
    os.close(writer)
    loop.run_forever()
    assert calls == [b""]


@BOTH
def test_a_pipe_without_reader_is_something_to_write(loop, pipe):
    reader, writer = pipe()
    os.set_blocking(writer, False)
    while True:
        try:
            os.write(writer, bytes(65536))
        except BlockingIOError:
            break
    calls = []
    loop.add_writer(writer, lambda: calls.append(1) or loop.stop())
    turn(loop)
    assert calls == []
    os.close(reader)
    loop.run_forever()
    assert calls[:1] == [1]


@BOTH
def test_runs_in_a_copy_of_the_context_of_the_call(loop, pair):
    ours, peer = pair
    var = contextvars.ContextVar("var", default="unset")
    seen = []
    token = var.set("at the call")
    loop.add_reader(ours, lambda: seen.append(var.get()) or loop.stop())
    var.reset(token)
    peer.send(b"x")
    loop.run_forever()
    assert seen == ["at the call"]


@BOTH
def test_an_exception_goes_to_the_handler_and_the_loop_goes_on(loop, pair):
    ours, peer = pair
    reports = []
    loop.set_exception_handler(lambda _, report: reports.append(report["exception"]))

    def read():
        ours.recv(1)
        raise ValueError

    loop.add_reader(ours, read)
    loop.add_writer(peer, lambda: loop.stop() if len(reports) == 2 else None)
    peer.send(b"xx")
    loop.run_forever()
    assert [type(report) for report in reports] == [ValueError, ValueError]


@BOTH
def test_the_blocking_mode_is_not_changed(loop, pair):
    ours, _ = pair
    for blocking in (True, False):
        os.set_blocking(ours.fileno(), blocking)
        loop.add_reader(ours, print)
        loop.add_writer(ours, loop.stop)
        loop.run_forever()
        loop.remove_reader(ours)
        loop.remove_writer(ours)
        assert os.get_blocking(ours.fileno()) is blocking


@BOTH
@pytest.mark.parametrize("verb", ["add_reader", "add_writer"])
def test_i12_a_regular_file_is_refused_each_time_and_leaves_nothing(loop, tmp_path, verb):
    (tmp_path / "file").touch()
    with (tmp_path / "file").open("rb", buffering=0) as file:
        for _ in range(3):
            with pytest.raises(PermissionError):
                getattr(loop, verb)(file, print)
            assert not loop.remove_reader(file)
            assert not loop.remove_writer(file)
        turn(loop)
        ours, peer = socket.socketpair()
        with peer:
            number = file.fileno()
            os.dup2(ours.fileno(), number)
            ours.close()
            calls = []
            loop.add_reader(number, lambda: calls.append(1) or loop.stop())
            peer.send(b"x")
            loop.run_forever()
            assert calls == [1]
            loop.remove_reader(number)


@BOTH
@pytest.mark.parametrize("verb", ["add_reader", "add_writer"])
def test_a_closed_descriptor_is_refused_and_leaves_nothing(loop, pipe, verb):
    reader, _ = pipe()
    os.close(reader)
    with pytest.raises(OSError, match="Bad file descriptor"):
        getattr(loop, verb)(reader, print)
    assert not loop.remove_reader(reader)
    assert not loop.remove_writer(reader)


@BOTH
@pytest.mark.parametrize("verb", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
@pytest.mark.parametrize("wrong", [-1, "name", object(), None])
def test_what_is_no_descriptor_is_a_value_error(loop, verb, wrong):
    arguments = (print,) if verb.startswith("add") else ()
    with pytest.raises(ValueError):
        getattr(loop, verb)(wrong, *arguments)


@BOTH
def test_takes_numbers_and_objects_alike(loop, pair):
    ours, _ = pair
    loop.add_reader(ours.fileno(), print)
    assert loop.remove_reader(ours)
    loop.add_writer(ours, print)
    assert loop.remove_writer(ours.fileno())


@BOTH
@pytest.mark.parametrize("verb", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
def test_i10_a_transports_descriptor_is_refused(loop, verb):
    ours, peer = socket.socketpair()
    arguments = (print,) if verb.startswith("add") else ()

    class Quiet(asyncio.Protocol):
        pass

    transport, _ = loop.run_until_complete(loop.create_unix_connection(Quiet, sock=ours))
    with peer:
        turn(loop)
        for descriptor in (ours, ours.fileno()):
            with pytest.raises(RuntimeError, match="is used by transport"):
                getattr(loop, verb)(descriptor, *arguments)
        transport.abort()
        turn(loop)


def test_a_transports_descriptor_is_free_after_it_is_closed(loop, pair):
    ours, peer = socket.socketpair()
    number = ours.fileno()
    transport, _ = loop.run_until_complete(loop.create_unix_connection(asyncio.Protocol, sock=ours))
    transport.abort()
    turn(loop)
    peer.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    os.dup2(pair[0].fileno(), number)
    loop.add_reader(number, print)
    assert loop.remove_reader(number)
    os.close(number)


def test_after_close(loop, pair):
    ours, _ = pair
    loop.add_reader(ours, print)
    loop.close()
    assert not loop.remove_reader(ours)
    assert not loop.remove_writer(ours)
    for add in (loop.add_reader, loop.add_writer):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            add(ours, print)


@pytest.mark.parametrize("remove", ["remove_reader", "remove_writer"])
def test_a_socket_that_is_closed_already_may_be_removed(loop, pair, remove):
    ours, _peer = pair
    loop.add_reader(ours, print)
    loop.add_writer(ours, print)
    ours.close()
    assert not getattr(loop, remove)(ours)


@BOTH
def test_a_reader_removes_itself_and_raises(loop, pair):
    ours, peer = pair
    reports = []
    loop.set_exception_handler(lambda _, report: reports.append(report))

    def reader():
        loop.remove_reader(ours)
        loop.call_soon(loop.stop)
        raise ValueError("after the last reference has gone")

    loop.add_reader(ours, reader)
    peer.send(b"x")
    loop.run_forever()
    assert [str(report["exception"]) for report in reports] == ["after the last reference has gone"]


@BOTH
def test_a_number_that_cannot_be_a_descriptor(loop):
    with pytest.raises(OSError) as caught:
        loop.add_reader(1_000_000_000, print)
    assert caught.value.errno == errno.EBADF
