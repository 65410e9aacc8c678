"""Foreign descriptors that are closed behind the loop's back, and their numbers, which the kernel gives out again."""

import asyncio
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
def test_closed_and_reopened_then_added_again(loop, pipe):
    """Behind the loop's back: the number is another file now, and its owner says so."""
    reader, _ = pipe()
    calls = []
    loop.add_reader(reader, calls.append, "old")
    os.close(reader)
    again, writer = pipe(reader)
    loop.remove_reader(again)
    loop.add_reader(again, lambda: calls.append("new") or loop.stop())
    os.write(writer, b"x")
    loop.run_forever()
    assert calls == ["new"]


@pytest.mark.parametrize("with_duplicate", [False, True])
def test_closed_and_reopened_without_a_remove(loop, pipe, with_duplicate):
    reader, old_writer = pipe()
    calls = []
    loop.add_reader(reader, calls.append, "old")
    duplicate = os.dup(reader)
    os.close(reader)
    again, writer = pipe(reader)
    if not with_duplicate:
        os.close(duplicate)
    loop.add_reader(again, lambda: calls.append("new") or loop.stop())
    if with_duplicate:
        os.write(old_writer, b"for the old one")
        turn(loop)
        assert calls == []
    os.write(writer, b"x")
    loop.run_forever()
    assert calls == ["new"]
    loop.remove_reader(again)
    if with_duplicate:
        os.close(duplicate)


def test_the_old_owners_other_half_is_not_called_for_the_new_file(loop, pair):
    ours, other = socket.socketpair()
    number = ours.fileno()
    calls = []
    loop.add_writer(number, calls.append, "the old owner's writer")
    ours.close()
    stranger, peer = pair
    os.dup2(stranger.fileno(), number)
    loop.add_reader(number, lambda: calls.append("the new owner's reader") or loop.stop())
    turn(loop)
    assert calls == []
    peer.send(b"x")
    loop.run_forever()
    assert calls == ["the new owner's reader"]
    assert not loop.remove_writer(number)
    assert loop.remove_reader(number)
    other.close()
    os.close(number)


@pytest.mark.parametrize("removed", ["reader", "writer"])
def test_removing_one_half_does_not_register_the_new_file(loop, pair, removed):
    ours, other = socket.socketpair()
    number = ours.fileno()
    calls = []
    loop.add_reader(number, calls.append, "the old owner's reader")
    loop.add_writer(number, calls.append, "the old owner's writer")
    ours.close()
    stranger, peer = pair
    os.dup2(stranger.fileno(), number)
    peer.send(b"x")
    assert getattr(loop, f"remove_{removed}")(number)
    turn(loop)
    assert calls == []
    other.close()
    os.close(number)


def test_closed_and_reopened_by_somebody_who_does_not_tell(loop, pipe):
    """His file is his: also when the loop has to start with a new set, it is not registered for the old owner."""
    reader, _ = pipe()
    calls = []
    loop.add_reader(reader, calls.append, "the old owner's")
    os.close(reader)
    _, writer = pipe(reader)
    turn(loop)
    # What makes the loop start with a new set: a number that is closed, and its file is not.
    other, _ = pipe()
    loop.add_reader(other, print)
    duplicate = os.dup(other)
    os.close(other)
    loop.remove_reader(other)
    os.write(writer, b"x")
    turn(loop)
    os.close(duplicate)
    assert calls == []


@pytest.mark.parametrize("verb", ["add_reader", "add_writer"])
def test_reopened_as_a_regular_file(loop, pipe, tmp_path, verb):
    """The new owner gets his PermissionError, and the old file's events do not reach him."""
    reader, writer = pipe()
    duplicate = os.dup(reader)
    calls = []
    loop.add_reader(reader, calls.append, "old")
    with (tmp_path / "file").open("w+") as file:
        os.dup2(file.fileno(), reader)  # closes the old one
        with pytest.raises(PermissionError):
            getattr(loop, verb)(reader, calls.append, "new")
        os.write(writer, b"x")
        turn(loop)
        assert "new" not in calls
        assert not loop.remove_writer(reader)
        loop.remove_reader(reader)
        calls.clear()
        turn(loop)
        assert calls == []
    os.close(reader)
    os.close(duplicate)


@pytest.mark.parametrize("remove_first", [False, True])
@pytest.mark.parametrize("with_duplicate", [False, True])
def test_closed_and_reused_within_one_batch(loop, pipe, remove_first, with_duplicate):
    """Two descriptors have something to read. Whoever comes first closes the other one, opens a new file that gets the
    same number and has nothing to read, and watches it. Neither the old callback nor the new one may be called."""
    (one, one_writer), (two, two_writer) = pipe(), pipe()
    calls = []
    duplicates = []

    def callback(mine, other):
        calls.append("callback")
        os.read(mine, 1)
        if with_duplicate:
            duplicates.append(os.dup(other))
        if remove_first:
            loop.remove_reader(other)
        os.close(other)
        again, _ = pipe(other)
        loop.add_reader(again, calls.append, "the new file's")

    loop.add_reader(one, callback, one, two)
    loop.add_reader(two, callback, two, one)
    os.write(one_writer, b"x")
    os.write(two_writer, b"x")
    turn(loop)
    assert calls == ["callback"]
    for duplicate in duplicates:
        os.close(duplicate)


def connected_at_once(loop, sock):
    """The transport of a socket, inside of this callback: the coroutine has nothing to wait for but its turns."""
    coro = loop.create_unix_connection(asyncio.Protocol, sock=sock)
    try:
        while True:
            coro.send(None)
    except StopIteration as done:
        return done.value[0]


@pytest.mark.parametrize("mine", [False, True], ids=["another one's", "its own"])
def test_a_transport_takes_the_number_within_one_batch(loop, mine):
    """The first callback closes a descriptor of the batch without a word, its own or the other one. A transport gets
    the number, and none of the old callbacks that are still to come in this batch is called."""
    socks = [socket.socketpair() for _ in range(2)]
    peers = [peer for _, peer in socks]
    numbers = [ours.fileno() for ours, _ in socks]
    calls, transports = [], []

    def reader(index):
        calls.append("reader")
        if not transports:
            victim = index if mine else 1 - index
            if not mine:
                loop.remove_reader(numbers[index])
                loop.remove_writer(numbers[index])
            socks[victim][0].close()
            new, peer = socket.socketpair()
            peers.append(peer)
            if new.fileno() != numbers[victim]:
                os.dup2(new.fileno(), numbers[victim])
                new.close()
                new = socket.socket(fileno=numbers[victim])
            transports.append(connected_at_once(loop, new))
            calls.append("transport")
            if mine:
                loop.remove_reader(numbers[1 - index])
                loop.remove_writer(numbers[1 - index])

    for index, number in enumerate(numbers):
        loop.add_reader(number, reader, index)
        loop.add_writer(number, lambda: calls.append("writer") if transports else None)
    for peer in peers:
        peer.send(b"x")
    turn(loop)
    assert calls == ["reader", "transport"]
    transports[0].abort()
    turn(loop)
    for sock in [*peers, *(ours for ours, _ in socks)]:
        sock.close()


def test_a_reader_that_closes_and_reuses_its_own_descriptor(loop, pair):
    """Its writer was in the same event, and belongs to a file that is gone."""
    ours, peer = socket.socketpair()
    number = ours.fileno()
    stranger, _ = pair
    full = bytes(1 << 20)
    stranger.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            stranger.send(full)
    calls = []

    def reader():
        calls.append("reader")
        loop.remove_reader(number)
        loop.remove_writer(number)
        ours.close()
        os.dup2(stranger.fileno(), number)
        loop.add_writer(number, calls.append, "the new file's writer")

    loop.add_writer(number, calls.append, "writer")
    loop.add_reader(number, reader)
    peer.send(b"x")
    turn(loop)
    assert calls == ["reader"]
    peer.close()
    loop.remove_writer(number)
    os.close(number)
