"""Running, stopping and closing a loop; tasks, executor, asynchronous generators and exceptions.

Most of it is asyncio's promise, so asyncio's own loop has to pass the same tests: it proves them right.
"""

import asyncio
import concurrent.futures
import contextvars
import gc
import logging
import subprocess
import sys
import threading
import warnings
import weakref

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
    gc.collect()
    assert reports == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_raises_what_leaves_the_loop_and_reports_nothing(loop, reports, error):
    async def main():
        await asyncio.sleep(0)
        raise error

    with pytest.raises(error):
        loop.run_until_complete(main())
    gc.collect()
    assert reports == []
    assert loop.run_until_complete(asyncio.sleep(0, "runs again")) == "runs again"


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
    gc.collect()
    assert reports == []


def test_a_task_that_is_never_finished_is_not_reported(loop, reports):
    """The RuntimeError has told the caller already."""

    async def main():
        loop.stop()
        await loop.create_future()

    with pytest.raises(RuntimeError, match="before Future completed"):
        loop.run_until_complete(main())
    gc.collect()
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
    gc.collect()
    assert [ref() for ref in seen] == [None, None]


def test_cancelling_after_close(loop):
    handles = [loop.call_later(delay, print) for delay in range(100)]
    loop.close()
    for handle in handles:
        handle.cancel()


def test_an_unclosed_loop_warns_and_closes():
    before = len(epoll_loop.loop._loops)
    loop = epoll_loop.new_event_loop()
    with pytest.warns(ResourceWarning, match="unclosed event loop <Loop running=False closed=False"):
        del loop
    assert len(epoll_loop.loop._loops) == before


def test_a_closed_loop_does_not_warn(loop):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        other = epoll_loop.new_event_loop()
        other.close()
        del other
        gc.collect()
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


# --- tasks


def test_create_task(loop):
    var = contextvars.ContextVar("var")
    context = contextvars.copy_context()
    context.run(var.set, "given")

    async def main():
        return var.get()

    task = loop.create_task(main(), name="my task", context=context)
    assert isinstance(task, asyncio.Task)
    assert task.get_name() == "my task"
    assert loop.run_until_complete(task) == "given"


def test_tasks_have_names_without_one(loop):
    task = loop.create_task(asyncio.sleep(0))
    assert task.get_name().startswith("Task-")
    loop.run_until_complete(task)


@pytest.mark.parametrize(
    "keywords", [{}, {"name": "my task"}, {"context": contextvars.copy_context()}, {"name": None, "context": None}]
)
def test_task_factories_get_what_they_get_from_asyncio(keywords):
    """Which keywords that are differs from Python to Python."""
    calls = []
    names = []
    for make in LOOPS:
        loop = make()

        def factory(loop, coro, **kwargs):
            calls.append(kwargs)
            return asyncio.Task(coro, loop=loop, **kwargs)

        loop.set_task_factory(factory)
        assert loop.get_task_factory() is factory
        task = loop.create_task(asyncio.sleep(0, "result"), **keywords)
        names.append(task.get_name())
        assert loop.run_until_complete(task) == "result"
        loop.set_task_factory(None)
        assert loop.get_task_factory() is None
        assert loop.run_until_complete(asyncio.sleep(0, "again")) == "again"
        loop.close()
    assert len(calls) == 2
    assert calls[0] == calls[1]
    if keywords.get("name"):
        assert names == ["my task"] * 2


def test_a_task_factory_must_be_callable(loop):
    with pytest.raises(TypeError, match="task factory must be a callable or None"):
        loop.set_task_factory("factory")


@OURS
def test_a_factory_may_return_something_else(loop):
    future = loop.create_future()

    def factory(loop, coro, **kwargs):
        coro.close()
        return future

    loop.set_task_factory(factory)
    assert loop.create_task(asyncio.sleep(0)) is future


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_eager_tasks(loop):
    log = []

    async def child(wait):
        log.append("child")
        if wait:
            await asyncio.sleep(0)
        return "result"

    async def main():
        done = loop.create_task(child(False), name="eager")
        assert done.done()
        assert done.get_name() == "eager"
        waiting = loop.create_task(child(True))
        log.append("main")
        assert not waiting.done()
        return await done, await waiting

    loop.set_task_factory(asyncio.eager_task_factory)
    assert loop.run_until_complete(main()) == ("result", "result")
    assert log == ["child", "child", "main"]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="create_task(eager_start=…) came with Python 3.14")
def test_eager_start(loop):
    async def child():
        return "result"

    async def main():
        task = loop.create_task(child(), eager_start=True)
        assert task.done()
        return task.result()

    assert loop.run_until_complete(main()) == "result"


def test_unknown_keywords_are_a_type_error(loop):
    coro = asyncio.sleep(0)
    with pytest.raises(TypeError):
        loop.create_task(coro, unknown=1)
    coro.close()


def test_create_future(loop):
    future = loop.create_future()
    assert isinstance(future, asyncio.Future)
    assert future.get_loop() is loop


def test_contexts_of_tasks_do_not_leak(loop):
    var = contextvars.ContextVar("var", default="outside")

    async def child():
        var.set("child")
        await asyncio.sleep(0)
        return var.get()

    async def main():
        return await asyncio.gather(*[asyncio.create_task(child()) for _ in range(3)]), var.get()

    assert loop.run_until_complete(main()) == (["child"] * 3, "outside")
    assert var.get() == "outside"


# --- threads


def test_run_in_executor(loop):
    def work(*args):
        return args, threading.current_thread()

    args, thread = loop.run_until_complete(loop.run_in_executor(None, work, 1, 2))
    assert args == (1, 2)
    assert thread is not threading.current_thread()

    def fail():
        raise LookupError

    with pytest.raises(LookupError):
        loop.run_until_complete(loop.run_in_executor(None, fail))


def test_run_in_an_executor_of_the_caller(loop):
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="mine") as executor:
        name = loop.run_until_complete(loop.run_in_executor(executor, lambda: threading.current_thread().name))
        assert name.startswith("mine")
        executor_default = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="default")
        loop.set_default_executor(executor_default)
        name = loop.run_until_complete(loop.run_in_executor(None, lambda: threading.current_thread().name))
        assert name.startswith("default")
    loop.run_until_complete(loop.shutdown_default_executor())


def test_a_default_executor_has_threads(loop):
    with pytest.raises(TypeError, match="executor must be ThreadPoolExecutor instance"):
        loop.set_default_executor("executor")


def test_shutdown_of_the_executor_waits_for_its_threads(loop):
    release = threading.Event()
    log = []

    def work():
        release.wait(30)
        log.append("work is done")

    async def main():
        future = loop.run_in_executor(None, work)
        loop.call_soon(release.set)
        await loop.shutdown_default_executor()
        log.append("shut down")
        await future

    loop.run_until_complete(main())
    assert log == ["work is done", "shut down"]


def test_shutdown_of_the_executor_without_one(loop):
    loop.run_until_complete(loop.shutdown_default_executor())


def test_no_work_after_the_shutdown_of_the_executor(loop):
    async def main():
        await loop.run_in_executor(None, print)
        await loop.shutdown_default_executor()
        with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
            loop.run_in_executor(None, print)

    loop.run_until_complete(main())


def test_shutdown_of_the_executor_with_a_timeout():
    # asyncio's own came with 3.12 and waited all the same before 3.13; ours has it everywhere.
    for make in LOOPS if sys.version_info >= (3, 13) else LOOPS[1:]:
        loop = make()
        release = threading.Event()
        future = None

        async def main(loop=loop, release=release):
            nonlocal future
            future = loop.run_in_executor(None, release.wait, 30)
            with pytest.warns(RuntimeWarning, match=r"did not finishing joining its threads within 0\.01 seconds"):
                await loop.shutdown_default_executor(timeout=0.01)
            assert not future.done()

        loop.run_until_complete(main())
        release.set()
        loop.run_until_complete(future)
        loop.close()


def test_close_does_not_wait_for_the_executor(loop):
    release = threading.Event()
    started = threading.Event()

    def work():
        started.set()
        return release.wait(30)

    loop.run_in_executor(None, work)
    assert started.wait(30)
    loop.close()
    release.set()


# --- asynchronous generators


async def ticker(log, name):
    try:
        while True:
            yield name
    finally:
        await asyncio.sleep(0)
        log.append(name)


def test_shutdown_asyncgens(loop):
    log = []
    kept = []

    async def main():
        for name in ("one", "two"):
            agen = ticker(log, name)
            kept.append(agen)
            await anext(agen)
        await loop.shutdown_asyncgens()

    loop.run_until_complete(main())
    assert sorted(log) == ["one", "two"]


def test_a_dropped_asyncgen_is_closed_by_the_loop(loop):
    log = []

    async def main():
        agen = ticker(log, "dropped")
        await anext(agen)
        del agen
        gc.collect()
        while not log:
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert log == ["dropped"]


def test_an_asyncgen_that_fails_to_close_is_reported(loop, reports):
    async def broken():
        try:
            yield 1
        finally:
            raise LookupError

    agen = broken()

    async def main():
        await anext(agen)
        await loop.shutdown_asyncgens()

    loop.run_until_complete(main())
    (report,) = reports
    assert "an error occurred during closing of asynchronous generator" in report["message"]
    assert isinstance(report["exception"], LookupError)
    assert report["asyncgen"] is agen


def test_an_asyncgen_after_the_shutdown_warns(loop):
    async def main():
        await loop.shutdown_asyncgens()
        agen = ticker([], "late")
        with pytest.warns(ResourceWarning, match=r"was scheduled after loop\.shutdown_asyncgens\(\) call"):
            await anext(agen)
        await agen.aclose()

    loop.run_until_complete(main())


def test_shutdown_of_no_asyncgens(loop):
    loop.run_until_complete(loop.shutdown_asyncgens())


# --- exceptions


def test_the_exception_handler_is_kept(loop):
    def handler(loop, context):
        pass

    assert loop.get_exception_handler() is None
    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None
    with pytest.raises(TypeError, match="A callable object or None is expected"):
        loop.set_exception_handler("handler")


def test_the_exception_handler_gets_loop_and_context(loop):
    calls = []
    loop.set_exception_handler(lambda *args: calls.append(args))
    report = {"message": "text", "exception": LookupError()}
    loop.call_exception_handler(report)
    assert calls == [(loop, report)]


def test_the_default_is_a_log_record(loop, caplog):
    def callback():
        raise LookupError("broken")

    loop.call_soon(callback)
    turn(loop)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("asyncio", logging.ERROR)
    assert record.getMessage().startswith("Exception in callback ")
    assert isinstance(record.exc_info[1], LookupError)


def test_the_log_record_has_all_of_the_context(loop, caplog):
    loop.call_exception_handler({"message": "text", "one": 1, "two": [2], "future": None})
    (record,) = caplog.records
    assert record.getMessage() == "text\nfuture: None\none: 1\ntwo: [2]"
    caplog.clear()
    loop.call_exception_handler({})
    assert caplog.records[0].getMessage() == "Unhandled exception in event loop"


def test_an_exception_handler_that_fails_is_logged_and_the_loop_goes_on(loop, caplog):
    def handler(loop, context):
        raise ZeroDivisionError

    def callback():
        raise LookupError

    loop.set_exception_handler(handler)
    log = []
    loop.call_soon(callback)
    loop.call_soon(log.append, "goes on")
    turn(loop)
    assert log == ["goes on"]
    (record,) = caplog.records
    assert "Unhandled error in exception handler" in record.getMessage()
    assert isinstance(record.exc_info[1], ZeroDivisionError)


def test_a_repr_that_fails_does_not_end_the_loop(loop, caplog):
    class Broken:
        def __repr__(self):
            raise LookupError

    loop.call_exception_handler({"message": "text", "broken": Broken()})
    assert any("Exception in default exception handler" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exception_handler_may_leave_the_loop(loop, error):
    def handler(loop, context):
        raise error

    def callback():
        raise LookupError

    loop.set_exception_handler(handler)
    loop.call_soon(callback)
    with pytest.raises(error):
        loop.run_forever()
    turn(loop)


def test_a_task_exception_that_nobody_looks_at_is_reported(loop, reports):
    async def main():
        raise LookupError

    loop.create_task(main())
    turn(loop)
    turn(loop)
    gc.collect()
    (report,) = reports
    assert report["message"] == "Task exception was never retrieved"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio runs it in the context from Python 3.12 on")
def test_the_exception_handler_runs_in_the_context_of_what_failed(loop):
    var = contextvars.ContextVar("var", default="outside")
    seen = []

    def callback():
        var.set("in the callback")
        raise LookupError

    loop.set_exception_handler(lambda *args: seen.append(var.get()))
    loop.call_soon(callback)
    turn(loop)
    assert seen == ["in the callback"]


# --- what is not there yet


MISSING = [
    "start_tls",
    "sendfile",
    "create_datagram_endpoint",
    "connect_read_pipe",
    "connect_write_pipe",
    "subprocess_shell",
    "subprocess_exec",
]


@pytest.mark.parametrize("name", MISSING)
def test_what_is_not_there_yet_says_so(name):
    loop = epoll_loop.new_event_loop()
    with pytest.raises(NotImplementedError, match=name):
        loop.run_until_complete(getattr(loop, name)(None, None, None))
    loop.close()


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
