"""Fork in a running program: the child leaves the parent's loop alone, and can have one of its own."""

import asyncio
import multiprocessing
import os
import signal
import socket
import sys
import threading
import traceback
import warnings

import pytest
from pollers import POLLER

import epoll_loop


def in_child(function, *args):
    """Fork; the child calls the function and ends. Return what it says went wrong, "" for nothing."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads: that is what is tested
        pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(30)
            function(*args)
        except BaseException:
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as file:
        said = file.read()
    _, status = os.waitpid(pid, 0)
    return said if status == 0 else f"{said} status {status}"


def registrations(loop):
    """The kernel's list of what is in the loop's epoll set; there is nothing that a child shares on other back ends."""
    if POLLER != "epoll":
        return []
    with open(f"/proc/self/fdinfo/{loop._poller.fileno()}") as file:
        return sorted(" ".join(line.split()[:4]) for line in file if line.startswith("tfd:"))


@pytest.fixture
def pair():
    ours, peer = socket.socketpair()
    peer.settimeout(20)
    with ours, peer:
        yield ours, peer


def refuses_to_run(loop):
    for run in (loop.run_forever, lambda: loop.run_until_complete(loop.create_future())):
        with pytest.raises(RuntimeError, match="parent"):
            run()


def turn(loop):
    loop.stop()
    loop.run_forever()


def test_the_child_refuses_to_run_it(loop):
    assert in_child(refuses_to_run, loop) == ""
    assert in_child(lambda: [loop.is_running() and 1 / 0, refuses_to_run(loop), loop.close()]) == ""
    turn(loop)


def test_the_child_closes_it_and_the_parent_goes_on(loop, pair):
    ours, peer = pair
    loop.add_reader(ours, lambda: (ours.recv(1), loop.stop()))
    before = registrations(loop)

    def child():
        loop.close()
        assert loop.is_closed()

    assert in_child(child) == ""
    assert registrations(loop) == before
    peer.send(b"x")
    loop.run_forever()
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,))
    thread.start()
    loop.run_forever()
    thread.join()
    loop.remove_reader(ours)


@pytest.mark.parametrize(
    "use",
    [
        lambda loop, fd: loop.remove_reader(fd),
        lambda loop, fd: loop.remove_writer(fd),
        lambda loop, fd: loop.add_reader(fd, print),
        lambda loop, fd: loop.add_writer(fd, print),
        lambda loop, fd: loop.add_reader(0, print),
        lambda loop, fd: (loop.remove_reader(fd), loop.remove_writer(fd)),
        lambda loop, fd: (os.close(fd), loop.remove_reader(fd)),
    ],
    ids=["remove", "remove_writer", "replace", "replace_writer", "add", "remove_both", "close"],
)
def test_the_child_does_not_change_the_parents_set(loop, pair, use):
    """An epoll set is shared by both, whichever process calls epoll_ctl(2)."""
    ours, peer = pair
    calls = []
    loop.add_reader(ours, lambda: calls.append(ours.recv(1)) or loop.stop())
    loop.add_writer(ours, int)
    before = registrations(loop)

    def child():
        try:
            use(loop, ours.fileno())
        except (RuntimeError, OSError):
            pass

    assert in_child(child) == ""
    assert registrations(loop) == before
    loop.remove_writer(ours)
    peer.send(b"x")
    loop.run_forever()
    assert calls == [b"x"]
    loop.remove_reader(ours)


def test_a_new_loop_works_in_the_child(loop):
    async def main():
        reader, writer = socket.socketpair()
        with reader, writer:
            arrived = asyncio.Event()
            asyncio.get_running_loop().add_reader(reader, arrived.set)
            writer.send(b"x")
            await arrived.wait()
            asyncio.get_running_loop().remove_reader(reader)
        return await asyncio.to_thread(lambda: "result")

    def child():
        assert epoll_loop.run(main()) == "result"
        loop.close()

    assert in_child(child) == ""
    assert loop.run_until_complete(main()) == "result"
    loop.run_until_complete(loop.shutdown_default_executor())


def test_fork_in_a_callback(loop, pair):
    """The child is in the middle of an iteration of a loop that is not its own."""
    ours, peer = pair
    outcomes = []

    def child():
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        assert not loop.is_running()
        refuses_to_run(loop)
        assert epoll_loop.run(asyncio.sleep(0, "result")) == "result"
        loop.close()

    def fork():
        outcomes.append(in_child(child))

    log = []
    loop.add_reader(ours, lambda: log.append(ours.recv(1)))
    loop.call_soon(fork)
    loop.call_soon(log.append, "rest of the batch")
    loop.call_later(0, log.append, "timer")
    turn(loop)
    assert outcomes == [""]
    assert log == ["rest of the batch", "timer"]
    peer.send(b"x")
    turn(loop)
    assert log[2:] == [b"x"]
    loop.remove_reader(ours)


def test_the_child_that_returns_into_the_loop_comes_out_of_it(loop):
    """And runs nothing of the parent's on the way, nor what it schedules itself."""
    reader, writer = os.pipe()
    parent = os.getpid()

    def note(text):
        os.write(writer, f"{'parent' if os.getpid() == parent else 'child'} {text}\n".encode())

    async def fork():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            if os.fork() == 0:
                signal.alarm(30)
                loop.call_soon(note, "scheduled")
                await asyncio.sleep(0)
        note("task")
        loop.stop()

    loop.create_task(fork())
    loop.call_soon(note, "rest")
    loop.call_later(0, note, "timer")
    try:
        loop.run_forever()
        if os.getpid() != parent:
            note("came out as if nothing was")
    except RuntimeError as exc:
        note(f"refused: {'parent process' in str(exc)}")
    except BaseException as exc:
        note(f"{exc!r}")
    finally:
        if os.getpid() != parent:
            os._exit(0)
    os.wait()
    os.close(writer)
    with open(reader) as file:
        lines = file.read().split("\n")
    assert sorted(filter(None, lines)) == ["child refused: True", "parent rest", "parent task", "parent timer"]


def test_what_is_queued_is_sent_once_and_by_the_parent(loop, pair):
    """Written before the fork, not flushed yet, and forked in the same iteration."""
    ours, peer = pair
    transport, _ = loop.run_until_complete(loop.create_unix_connection(asyncio.Protocol, sock=ours.dup()))
    outcomes = []

    def write_and_fork():
        transport.write(b"once ")
        outcomes.append(in_child(loop.close))
        outcomes.append(in_child(refuses_to_run, loop))

    loop.call_soon(write_and_fork)
    turn(loop)
    assert outcomes == ["", ""]
    transport.write(b"twice")
    turn(loop)
    peer.setblocking(False)
    assert peer.recv(100) == b"once twice"
    transport.abort()
    turn(loop)


def test_the_child_closes_its_copy_of_a_transport_and_the_parents_goes_on(loop, pair):
    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data)
            loop.stop()

    ours, peer = pair
    transport, _ = loop.run_until_complete(loop.create_unix_connection(Echo, sock=ours.dup()))
    before = registrations(loop)

    def child():
        transport.abort()
        loop.close()

    assert in_child(child) == ""
    assert registrations(loop) == before
    peer.send(b"hello")
    loop.run_forever()
    assert peer.recv(100) == b"hello"
    transport.abort()
    turn(loop)


def test_fork_while_the_loop_sleeps_in_another_thread(loop):
    started = threading.Event()
    loop.call_soon(started.set)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    assert started.wait(30)

    def child():
        assert not loop.is_running()
        refuses_to_run(loop)
        loop.close()
        assert epoll_loop.run(asyncio.sleep(0, "result")) == "result"

    assert in_child(child) == ""
    assert loop.is_running()
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)
    assert not thread.is_alive()


def test_fork_while_another_thread_wakes_the_loop(loop):
    """In the child nobody gives back a lock that is held at that moment."""
    over = threading.Event()

    def wake():
        while not over.is_set():
            loop._poller.wake()

    def child():
        signal.alarm(5)
        loop.close()

    threads = [threading.Thread(target=loop.run_forever), *(threading.Thread(target=wake) for _ in range(2))]
    for thread in threads:
        thread.start()
    try:
        for _ in range(80):
            assert in_child(child) == ""
    finally:
        over.set()
        loop.call_soon_threadsafe(loop.stop)
        for thread in threads:
            thread.join(30)


def test_signals_of_the_child_are_not_the_parents(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
    turn(loop)

    def child():
        signal.raise_signal(signal.SIGUSR1)  # the Python handler is inherited, and does nothing

    assert in_child(child) == ""
    for _ in range(3):
        turn(loop)
    assert seen == []
    signal.raise_signal(signal.SIGUSR1)
    for _ in range(3):
        turn(loop)
    assert seen == [1]


def test_the_child_may_have_signal_handlers_of_its_own(loop):
    loop.add_signal_handler(signal.SIGUSR1, print, "the parent's")

    def child():
        loop.close()
        own = epoll_loop.new_event_loop()
        own.add_signal_handler(signal.SIGUSR1, own.stop)
        own.call_soon(signal.raise_signal, signal.SIGUSR1)
        own.run_forever()
        own.close()

    assert in_child(child) == ""
    assert loop.remove_signal_handler(signal.SIGUSR1)


def test_a_child_of_a_child(loop):
    def child():
        own = epoll_loop.new_event_loop()
        assert in_child(refuses_to_run, own) == ""
        assert in_child(refuses_to_run, loop) == ""
        own.run_until_complete(asyncio.sleep(0))
        own.close()

    assert in_child(child) == ""


def test_multiprocessing(loop):
    """Its children are forked, where that is the way, in the middle of a callback of the parent."""

    async def work():
        await asyncio.sleep(0)
        sys.exit(7)

    async def main():
        process = multiprocessing.get_context("fork").Process(target=lambda: epoll_loop.run(work()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        process.join(30)
        return process.exitcode

    assert loop.run_until_complete(main()) == 7
