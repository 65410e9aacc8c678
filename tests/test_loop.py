"""Running, stopping and closing a loop.

Most of it is asyncio's promise, so asyncio's own loop has to pass the same tests: it proves them right.
"""

import asyncio
import socket
import subprocess
import sys
import threading
import warnings
import weakref

import garbage
import pytest

import epoll_loop

LOOPS = [asyncio.SelectorEventLoop, epoll_loop.new_event_loop]
# For what some versions of asyncio do not keep themselves.
OURS = pytest.mark.parametrize("loop", [epoll_loop.new_event_loop], ids=["epoll_loop"], indirect=True)


@pytest.fixture(params=LOOPS, ids=["asyncio", "epoll_loop"])
def loop(request):
    new = request.param()
    yield new
    if new.is_running():
        pytest.fail("still running")
    new.close()


@pytest.fixture
def reports(loop):
    """What the exception handler gets."""
    found = []
    loop.set_exception_handler(lambda _, report: found.append(report))
    return found


def turn(loop):
    """One iteration, without waiting."""
    loop.stop()
    loop.run_forever()


# --- run_forever, stop, is_running


def test_what_was_scheduled_before_the_run_comes_before_what_the_kernel_has(loop):
    log = []
    ours, peer = socket.socketpair()
    with ours, peer:
        loop.add_reader(ours, lambda: log.append("reader") or loop.remove_reader(ours))
        peer.send(b"x")
        loop.call_soon(log.append, "scheduled")
        turn(loop)
    assert log == ["scheduled", "reader"]


def test_stop_ends_the_run_after_this_iteration(loop):
    log = []

    def stop():
        log.append("stop")
        loop.stop()
        loop.call_soon(log.append, "next iteration")

    loop.call_soon(stop)
    loop.call_soon(log.append, "same iteration")
    loop.run_forever()
    assert log == ["stop", "same iteration"]
    turn(loop)
    assert log[2:] == ["next iteration"]


def test_stop_before_the_run_lets_one_iteration_run(loop):
    log = []
    loop.call_soon(lambda: log.append(1) or loop.call_soon(log.append, 2))
    loop.stop()
    loop.run_forever()
    assert log == [1]


def test_a_stop_counts_once(loop):
    loop.stop()
    loop.stop()
    loop.run_forever()
    log = []
    loop.call_soon(lambda: loop.call_soon(lambda: log.append("second iteration") or loop.stop()))
    loop.run_forever()
    assert log == ["second iteration"]


def test_the_stop_of_an_interrupted_run_does_not_last(loop):
    def leave():
        loop.stop()
        raise KeyboardInterrupt

    loop.call_soon(leave)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    log = []
    loop.call_soon(lambda: loop.call_soon(lambda: log.append("second iteration") or loop.stop()))
    loop.run_forever()
    assert log == ["second iteration"]


def test_is_running(loop):
    seen = []
    assert not loop.is_running()
    loop.call_soon(lambda: seen.append(loop.is_running()))
    turn(loop)
    assert seen == [True]
    assert not loop.is_running()


def test_is_the_running_loop_of_its_thread(loop):
    seen = []
    loop.call_soon(lambda: seen.append(asyncio.get_running_loop()))
    turn(loop)
    assert seen == [loop]
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_runs_in_another_thread(loop):
    log = []
    thread = threading.Thread(target=loop.run_until_complete, args=(asyncio.sleep(0),))
    loop.call_soon(lambda: log.append(threading.current_thread()))
    thread.start()
    thread.join()
    assert log == [thread]


@OURS
def test_does_not_run_twice(loop):
    async def main():
        for run in (loop.run_forever, lambda: loop.run_until_complete(loop.create_future())):
            with pytest.raises(RuntimeError, match="already running"):
                run()

    loop.run_until_complete(main())


def test_does_not_run_inside_another_loop(loop):
    other = epoll_loop.new_event_loop()

    async def main():
        for run in (other.run_forever, lambda: other.run_until_complete(other.create_future())):
            with pytest.raises(RuntimeError, match="while another loop is running"):
                run()

    loop.run_until_complete(main())
    other.close()


def test_hooks_are_put_back(loop):
    def firstiter(agen):
        pass

    def finalizer(agen):
        pass

    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter, finalizer)
    sys.set_coroutine_origin_tracking_depth(3)
    loop.set_debug(True)
    seen = []
    loop.call_soon(lambda: seen.append((*sys.get_asyncgen_hooks(), sys.get_coroutine_origin_tracking_depth())))
    try:
        turn(loop)
        assert tuple(sys.get_asyncgen_hooks()) == (firstiter, finalizer)
        assert sys.get_coroutine_origin_tracking_depth() == 3
    finally:
        sys.set_asyncgen_hooks(*before)
        sys.set_coroutine_origin_tracking_depth(0)
    assert seen[0][0] is not firstiter
    assert seen[0][2] > 3


# --- run_until_complete


def test_returns_the_result(loop):
    async def main():
        await asyncio.sleep(0)
        return "result"

    assert loop.run_until_complete(main()) == "result"
    future = loop.create_future()
    loop.call_soon(future.set_result, "of a future")
    assert loop.run_until_complete(future) == "of a future"
    assert loop.run_until_complete(future) == "of a future"  # it is done already


def test_raises_the_exception(loop, reports):
    async def main():
        raise LookupError

    with pytest.raises(LookupError):
        loop.run_until_complete(main())
    future = loop.create_future()
    loop.call_soon(future.cancel)
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(future)
    del future
    garbage.collect()
    assert reports == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_raises_what_leaves_the_loop_and_reports_nothing(loop, reports, error):
    async def main():
        await asyncio.sleep(0)
        raise error

    with pytest.raises(error):
        loop.run_until_complete(main())
    garbage.collect()
    assert reports == []
    assert loop.run_until_complete(asyncio.sleep(0, "runs again")) == "runs again"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_has_left_the_loop_is_not_reported_when_it_closes(loop, reports, error):
    async def main():
        raise error

    with pytest.raises(error):
        loop.run_until_complete(main())
    loop.close()
    garbage.collect()
    assert reports == []


def test_stopped_before_it_is_done(loop, reports):
    async def main():
        loop.stop()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return "done"

    with pytest.raises(RuntimeError, match=r"Event loop stopped before Future completed\."):
        loop.run_until_complete(main())
    task = loop.create_task(main())
    with pytest.raises(RuntimeError, match="before Future completed"):
        loop.run_until_complete(task)
    assert loop.run_until_complete(task) == "done"  # it goes on where it was
    garbage.collect()
    assert reports == []


def test_a_task_that_is_never_finished_is_not_reported(loop, reports):
    """The RuntimeError has told the caller already."""

    async def main():
        loop.stop()
        await loop.create_future()

    with pytest.raises(RuntimeError, match="before Future completed"):
        loop.run_until_complete(main())
    garbage.collect()
    assert reports == []


def test_a_future_that_is_done_later_does_not_stop_another_run(loop):
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="before Future completed"):
        loop.run_until_complete(future)
    log = []
    loop.call_soon(future.set_result, None)
    loop.call_soon(lambda: loop.call_soon(lambda: loop.call_soon(log.append, "third iteration")))
    loop.run_until_complete(asyncio.wait_for(loop.create_task(asyncio.sleep(0.01)), 10))
    assert log == ["third iteration"]


def test_a_future_of_another_loop_is_refused(loop):
    other = epoll_loop.new_event_loop()
    with pytest.raises(ValueError):
        loop.run_until_complete(other.create_future())
    other.close()


@pytest.mark.parametrize("wrong", [None, 1, print])
def test_what_is_not_awaitable_is_refused(loop, wrong):
    with pytest.raises(TypeError):
        loop.run_until_complete(wrong)


def test_a_task_that_is_cancelled_while_it_runs(loop):
    async def main():
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(main())


# --- close


def test_close_twice(loop):
    assert not loop.is_closed()
    loop.close()
    assert loop.is_closed()
    loop.close()


def test_close_of_a_running_loop_is_refused(loop):
    async def main():
        with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
            loop.close()

    loop.run_until_complete(main())
    assert not loop.is_closed()


USES = {
    "run_forever": lambda loop: loop.run_forever(),
    "run_until_complete": lambda loop: loop.run_until_complete(loop.create_future()),
    "call_soon": lambda loop: loop.call_soon(print),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(print),
    "call_later": lambda loop: loop.call_later(1, print),
    "call_at": lambda loop: loop.call_at(1, print),
    "run_in_executor": lambda loop: loop.run_in_executor(None, print),
    "add_signal_handler": lambda loop: loop.add_signal_handler(10, print),
}


@pytest.mark.parametrize("use", USES)
def test_use_after_close(loop, use):
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        USES[use](loop)


def test_create_task_after_close(loop):
    loop.close()
    coro = asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.create_task(coro)
    coro.close()


def test_harmless_after_close(loop):
    loop.close()
    loop.stop()
    assert loop.time() > 0
    assert not loop.create_future().done()
    assert "closed=True" in repr(loop)


def test_close_drops_what_waits(loop):
    class Thing:
        def method(self):
            pass

    soon, later = Thing(), Thing()
    seen = weakref.ref(soon), weakref.ref(later)
    loop.call_soon(soon.method)
    loop.call_later(1000, later.method)
    del soon, later
    loop.close()
    garbage.collect()
    assert [ref() for ref in seen] == [None, None]


def test_cancelling_after_close(loop):
    handles = [loop.call_later(delay, print) for delay in range(100)]
    loop.close()
    for handle in handles:
        handle.cancel()


def test_an_unclosed_loop_warns_and_closes():
    garbage.collect()  # what other tests have left
    before = len(epoll_loop.loop._loops)
    (text,) = garbage.drop([epoll_loop.new_event_loop()])
    assert text.startswith("unclosed event loop <Loop running=False closed=False")
    assert len(epoll_loop.loop._loops) == before


def test_a_closed_loop_does_not_warn(loop):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        other = epoll_loop.new_event_loop()
        other.close()
        del other
        garbage.collect()
    assert [str(warning.message) for warning in caught if "event loop" in str(warning.message)] == []


def test_repr(loop):
    assert "running=False" in repr(loop)
    assert "closed=False" in repr(loop)
    seen = []
    loop.call_soon(lambda: seen.append(repr(loop)))
    turn(loop)
    assert "running=True" in seen[0]


def test_nothing_of_asyncios_own_loops_is_inherited():
    for kind in (asyncio.BaseEventLoop, asyncio.SelectorEventLoop):
        assert not issubclass(epoll_loop.Loop, kind)
    assert issubclass(epoll_loop.Loop, asyncio.AbstractEventLoop)


def test_weak_references(loop):
    assert weakref.ref(loop)() is loop


# --- the whole of it


def test_every_method_of_the_abstract_loop_is_there():
    own = {name for kind in epoll_loop.Loop.__mro__ if kind is not asyncio.AbstractEventLoop for name in vars(kind)}
    abstract = {name for name in vars(asyncio.AbstractEventLoop) if not name.startswith("_")}
    assert abstract - own == set()


# --- asyncio on top


def test_asyncios_tools_work_on_it(loop):
    async def work(queue, number):
        async with asyncio.timeout(30):
            await queue.put(number)
            await asyncio.sleep(0.001)

    async def main():
        queue = asyncio.Queue(3)
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(work(queue, number))
            received = [await queue.get() for _ in range(20)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.001)
        return sorted(received), await asyncio.to_thread(sum, [1, 2, 3])

    assert loop.run_until_complete(main()) == (list(range(20)), 6)
    loop.run_until_complete(loop.shutdown_default_executor())


def test_control_c_cancels_the_main_task():
    """asyncio.Runner does that, with a handler that calls into the loop."""
    program = """
import asyncio, os, signal, epoll_loop

async def main():
    try:
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGINT)
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        print("cancelled")
        raise

try:
    epoll_loop.run(main())
except KeyboardInterrupt:
    print("KeyboardInterrupt")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout.split() == ["cancelled", "KeyboardInterrupt"]
