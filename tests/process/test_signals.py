"""add_signal_handler(): in the loop, in order, and out of the way afterwards."""

import asyncio
import os
import signal
import socket
import threading

import pytest
from resources import open_fds

import epoll_loop

ONE, TWO = signal.SIGUSR1, signal.SIGUSR2


@pytest.fixture(params=[asyncio.SelectorEventLoop, epoll_loop.new_event_loop], ids=["asyncio", "epoll_loop"])
def loop(request):
    """asyncio's own loop has to pass too: it proves the tests right."""
    before = {sig: signal.getsignal(sig) for sig in (signal.SIGINT, ONE, TWO)}
    new = request.param()
    yield new
    new.close()
    wakeup = signal.set_wakeup_fd(-1)
    for sig, handler in before.items():
        signal.signal(sig, handler)
    assert wakeup == -1


OURS = pytest.mark.parametrize("loop", [epoll_loop.new_event_loop], ids=["epoll_loop"], indirect=True)


def turn(loop, times=1):
    for _ in range(times):
        loop.stop()
        loop.run_forever()


def kill(sig):
    """To this thread: what is for the process any thread may get, and late (the runner of the tests has others)."""
    signal.pthread_kill(threading.main_thread().ident, sig)


def test_called_in_the_loop_with_its_arguments(loop):
    seen = []

    def callback(*args):
        seen.append((args, asyncio.get_running_loop(), threading.current_thread()))
        loop.stop()

    loop.add_signal_handler(ONE, callback, 1, "two")
    loop.call_soon(kill, ONE)
    loop.run_forever()
    assert seen == [((1, "two"), loop, threading.main_thread())]


def test_a_signal_ends_the_sleep(loop):
    loop.add_signal_handler(ONE, loop.stop)
    thread = threading.Thread(target=kill, args=(ONE,))
    thread.start()
    loop.run_forever()
    thread.join()


def test_signals_are_handled_in_the_order_of_their_arrival(loop):
    seen = []
    loop.add_signal_handler(ONE, seen.append, "one")
    loop.add_signal_handler(TWO, seen.append, "two")

    def send():
        for sig in (ONE, TWO, TWO, ONE):
            signal.raise_signal(sig)

    loop.call_soon(send)
    turn(loop, 4)
    assert seen == ["one", "two", "two", "one"]


def test_many_signals(loop):
    """More than the pipe or the socket in between is read for at a time."""
    seen = []
    loop.add_signal_handler(ONE, seen.append, 1)
    loop.call_soon(lambda: [signal.raise_signal(ONE) for _ in range(200)])
    turn(loop, 4)
    assert len(seen) == 200


@OURS
def test_under_load_none_is_lost(loop, capfd):
    """Far more than a loop usually finds waiting, and one of another kind behind them."""
    seen = []
    loop.add_signal_handler(ONE, seen.append, 1)
    loop.add_signal_handler(TWO, seen.append, 2)
    loop.call_soon(lambda: [signal.raise_signal(sig) for sig in [ONE] * 20_000 + [TWO]])
    turn(loop, 20)
    assert seen == [1] * 20_000 + [2]
    assert capfd.readouterr().err == ""


@OURS
def test_more_than_the_pipe_takes_is_no_error(loop, capfd):
    seen = []
    loop.add_signal_handler(ONE, seen.append, 1)
    loop.call_soon(lambda: [signal.raise_signal(ONE) for _ in range(70_000)])
    turn(loop, 20)
    assert seen
    assert capfd.readouterr().err == ""


def test_real_time_signals_are_counted(loop):
    """The kernel queues each of them."""
    sig = signal.SIGRTMIN + 1
    seen = []
    loop.add_signal_handler(sig, seen.append, 1)

    def send():
        signal.pthread_sigmask(signal.SIG_BLOCK, [sig])
        for _ in range(100):
            kill(sig)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [sig])

    loop.call_soon(send)
    turn(loop, 4)
    assert len(seen) == 100


def test_a_signal_between_two_runs_waits_for_the_next(loop):
    seen = []
    loop.add_signal_handler(ONE, seen.append, 1)
    turn(loop)
    kill(ONE)
    assert seen == []
    turn(loop, 3)
    assert seen == [1]


def test_a_new_handler_replaces_the_old_one(loop):
    seen = []
    loop.add_signal_handler(ONE, seen.append, "old")
    loop.add_signal_handler(ONE, seen.append, "new")
    kill(ONE)
    turn(loop, 3)
    assert seen == ["new"]


def test_remove(loop):
    seen = []
    assert not loop.remove_signal_handler(ONE)
    loop.add_signal_handler(ONE, seen.append, 1)
    assert loop.remove_signal_handler(ONE)
    assert not loop.remove_signal_handler(ONE)
    assert signal.getsignal(ONE) is signal.SIG_DFL
    turn(loop)
    assert seen == []


@OURS
def test_a_handler_that_was_removed_after_the_signal_is_not_called(loop):
    seen = []
    loop.add_signal_handler(ONE, seen.append, 1)
    kill(ONE)
    signal_was_handled = signal.getsignal(ONE)
    loop.remove_signal_handler(ONE)
    assert callable(signal_was_handled)
    turn(loop, 3)
    assert seen == []


def test_control_c_is_keyboard_interrupt_again_after_the_remove(loop):
    seen = []
    loop.add_signal_handler(signal.SIGINT, seen.append, "handled")
    loop.call_soon(kill, signal.SIGINT)
    turn(loop, 3)
    assert seen == ["handled"]
    loop.remove_signal_handler(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    loop.call_soon(kill, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()


def test_a_handler_may_remove_itself_and_add_another(loop):
    seen = []

    def first():
        seen.append("first")
        assert loop.remove_signal_handler(ONE)
        loop.add_signal_handler(ONE, seen.append, "second")

    loop.add_signal_handler(ONE, first)
    kill(ONE)
    turn(loop, 3)
    kill(ONE)
    turn(loop, 3)
    assert seen == ["first", "second"]


def test_an_exception_is_reported_and_the_loop_goes_on(loop):
    def fail():
        raise LookupError

    reports = []
    loop.set_exception_handler(lambda _, report: reports.append(report["exception"]))
    loop.add_signal_handler(ONE, fail)
    for _ in range(2):
        kill(ONE)
        turn(loop, 3)
    assert [type(report) for report in reports] == [LookupError, LookupError]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_handler_may_leave_the_loop(loop, error):
    def leave():
        raise error

    seen = []
    loop.add_signal_handler(ONE, leave)
    loop.add_signal_handler(TWO, seen.append, 2)
    kill(ONE)
    kill(TWO)
    with pytest.raises(error):
        loop.run_forever()
    turn(loop, 3)
    assert seen == [2]


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGSTOP])
def test_what_can_not_be_caught_is_a_runtime_error_and_leaves_nothing(loop, sig):
    with pytest.raises(RuntimeError, match="cannot be caught"):
        loop.add_signal_handler(sig, print)
    assert not loop.remove_signal_handler(sig)
    before = signal.set_wakeup_fd(-1)
    assert before == -1


@pytest.mark.parametrize(
    ("sig", "error"), [("SIGUSR1", TypeError), (1.5, TypeError), (0, ValueError), (9999, ValueError)]
)
def test_what_is_no_signal(loop, sig, error):
    with pytest.raises(error):
        loop.add_signal_handler(sig, print)
    with pytest.raises(error):
        loop.remove_signal_handler(sig)


def test_coroutine_functions_are_refused(loop):
    async def callback():
        pass

    with pytest.raises(TypeError, match=r"coroutines cannot be used with add_signal_handler\(\)"):
        loop.add_signal_handler(ONE, callback)
    coro = callback()
    with pytest.raises(TypeError, match=r"coroutines cannot be used with add_signal_handler\(\)"):
        loop.add_signal_handler(ONE, coro)
    coro.close()


def error_in_a_thread(function, *args):
    errors = []

    def call():
        try:
            function(*args)
        except Exception as exc:
            errors.append(exc)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return errors


def test_off_the_main_thread_it_is_a_runtime_error_and_leaves_nothing(loop):
    (error,) = error_in_a_thread(loop.add_signal_handler, ONE, print)
    assert type(error) is RuntimeError
    assert "set_wakeup_fd only works in main thread" in str(error)
    assert not loop.remove_signal_handler(ONE)


@OURS
def test_off_the_main_thread_of_a_running_loop_the_old_handler_stays(loop):
    seen = []
    loop.add_signal_handler(ONE, seen.append, "old")

    def try_it():
        for sig in (ONE, TWO):
            (error,) = error_in_a_thread(loop.add_signal_handler, sig, print)
            assert type(error) is RuntimeError
            assert "set_wakeup_fd only works in main thread" in str(error)
        assert not loop.remove_signal_handler(TWO)
        kill(ONE)

    reports = []
    loop.set_exception_handler(lambda _, report: reports.append(report))
    loop.call_soon(try_it)
    turn(loop, 4)
    assert reports == []
    assert seen == ["old"]


def test_close_puts_everything_back(loop):
    loop.add_signal_handler(ONE, print)
    loop.add_signal_handler(signal.SIGINT, print)
    loop.close()
    assert signal.getsignal(ONE) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.set_wakeup_fd(-1) == -1


@OURS
def test_a_loop_without_handlers_leaves_the_wakeup_descriptor_alone_between_runs(loop):
    ours, peer = os.pipe()
    os.set_blocking(peer, False)
    signal.set_wakeup_fd(peer)
    try:
        for use in (turn, lambda loop: loop.add_signal_handler(ONE, print) or loop.remove_signal_handler(ONE)):
            use(loop)
            assert signal.set_wakeup_fd(peer) == peer
    finally:
        signal.set_wakeup_fd(-1)
        os.close(ours)
        os.close(peer)


@OURS
def test_who_has_the_wakeup_descriptor_keeps_it_while_a_loop_without_handlers_runs(loop):
    """Twisted's reactor learns by it, and by nothing else, that a child has ended."""
    ours, peer = os.pipe()
    os.set_blocking(peer, False)
    before = signal.signal(ONE, lambda *_: None)
    signal.set_wakeup_fd(peer)
    seen = []
    try:
        loop.add_reader(ours, lambda: seen.append(os.read(ours, 10)) or loop.stop())
        loop.call_soon(kill, ONE)
        loop.run_forever()
        assert seen == [bytes([ONE])]
        assert signal.set_wakeup_fd(peer) == peer
    finally:
        loop.remove_reader(ours)
        signal.set_wakeup_fd(-1)
        signal.signal(ONE, before)
        os.close(ours)
        os.close(peer)


@OURS
def test_a_wakeup_descriptor_that_its_owner_has_closed_is_nobodys(loop):
    turn(loop)  # it has its own descriptors: none of them gets the number
    ours, peer = os.pipe()
    os.set_blocking(peer, False)
    signal.set_wakeup_fd(peer)
    os.close(ours)
    os.close(peer)
    turn(loop)
    assert signal.set_wakeup_fd(-1) == -1


@pytest.fixture
def owner(loop):
    """The ends of a pipe of somebody else's, for the wakeup descriptor."""
    ends = os.pipe()
    for fd in ends:
        os.set_blocking(fd, False)
    yield ends
    signal.set_wakeup_fd(-1)
    for fd in ends:
        os.close(fd)


def test_a_handler_takes_the_wakeup_descriptor_that_somebody_has_taken_in_this_run(loop, owner):
    def callback():
        signal.set_wakeup_fd(owner[1])
        loop.add_signal_handler(ONE, loop.stop)
        kill(ONE)

    loop.call_soon(callback)
    loop.run_forever()
    assert loop.remove_signal_handler(ONE)


def test_a_handler_takes_back_the_wakeup_descriptor_that_another_loop_has_given_away(loop):
    def callback():
        other = asyncio.SelectorEventLoop()
        other.add_signal_handler(TWO, print)
        other.close()
        loop.add_signal_handler(ONE, loop.stop)
        kill(ONE)

    loop.call_soon(callback)
    loop.run_forever()


@OURS
def test_what_interrupts_the_way_to_the_owner_leaves_nothing_of_ours(loop, owner, monkeypatch):
    """A signal handler may raise between any two calls."""
    signal.set_wakeup_fd(owner[1])
    real = signal.set_wakeup_fd

    def interrupted(*args, **kwargs):
        real(*args, **kwargs)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(signal, "set_wakeup_fd", interrupted)
    with pytest.raises(KeyboardInterrupt):
        turn(loop)
    loop.close()
    assert signal.set_wakeup_fd(-1) == -1


@OURS
def test_a_signal_on_the_way_to_the_owner_reaches_it(loop, owner, monkeypatch):
    turn(loop)
    signal.set_wakeup_fd(owner[1])
    before = signal.signal(ONE, lambda *_: None)
    real = signal.set_wakeup_fd

    def with_a_signal(*args, **kwargs):
        monkeypatch.undo()
        found = real(*args, **kwargs)
        signal.raise_signal(ONE)
        return found

    monkeypatch.setattr(signal, "set_wakeup_fd", with_a_signal)
    try:
        turn(loop)
        assert os.read(owner[0], 10) == bytes([ONE])
    finally:
        signal.signal(ONE, before)


@OURS
def test_what_an_owner_has_closed_meanwhile_is_not_put_back(loop, owner):
    """Its number is another file's by then, which would get the signals."""
    fd = os.dup(owner[1])
    os.set_blocking(fd, False)
    signal.set_wakeup_fd(fd)

    def callback():
        loop.add_signal_handler(ONE, print)
        os.dup2(other[1], fd)
        loop.remove_signal_handler(ONE)

    other = os.pipe()
    try:
        loop.call_soon(callback)
        turn(loop)
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        for each in (fd, *other):
            os.close(each)


def test_in_another_thread_a_loop_runs_without(loop):
    thread = threading.Thread(target=loop.run_until_complete, args=(asyncio.sleep(0),))
    thread.start()
    thread.join()
    assert signal.set_wakeup_fd(-1) == -1


@OURS
def test_the_close_of_another_loop_does_not_take_ours_away(loop):
    other = epoll_loop.new_event_loop()
    other.add_signal_handler(TWO, print)
    seen = []

    async def main():
        loop.add_signal_handler(ONE, lambda: seen.append(1) or loop.stop())
        other.close()
        loop.call_soon(kill, ONE)

    loop.create_task(main())
    loop.run_forever()
    assert seen == [1]
    loop.remove_signal_handler(ONE)
    turn(loop)
    signal.set_wakeup_fd(-1)


@OURS
def test_signals_of_a_loop_that_waits_while_another_one_runs(loop):
    """The other one has the wakeup descriptor for the time of its run, and gives it back."""
    seen = []
    loop.add_signal_handler(ONE, seen.append, 1)
    other = epoll_loop.new_event_loop()
    other.run_until_complete(asyncio.sleep(0))
    other.close()
    kill(ONE)
    turn(loop, 3)
    assert seen == [1]


@OURS
def test_costs_no_descriptor(loop):
    turn(loop)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        loop.add_signal_handler(ONE, print)
        loop.remove_signal_handler(ONE)
        turn(loop)
    assert len(os.listdir("/proc/self/fd")) == before


@OURS
def test_closed_in_another_thread_no_stranger_gets_the_signals(loop):
    """The C handler goes on writing to a number, which only the main thread can take from it."""
    before = set(open_fds())
    loop.add_signal_handler(ONE, print)
    ours = set(open_fds()) - before
    assert error_in_a_thread(loop.close) == []
    strangers = [sock for _ in range(4) for sock in socket.socketpair()]
    try:
        kill(ONE)
        for sock in strangers:
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.recv(1)
    finally:
        signal.set_wakeup_fd(-1)
        numbers = {sock.fileno() for sock in strangers}
        for sock in strangers:
            sock.close()
        for fd in ours - numbers:
            os.close(fd)
