"""Tasks and their factories, the executor's threads, asynchronous generators.

Most of it is asyncio's promise, so asyncio's own loop has to pass the same tests: it proves them right.
"""

import asyncio
import concurrent.futures
import contextvars
import sys
import threading

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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # PyPy's half-built task
def test_unknown_keywords_are_a_type_error(loop):
    coro = asyncio.sleep(0)
    with pytest.raises(TypeError):
        loop.create_task(coro, unknown=1)
    coro.close()
    garbage.let_go()  # of what is to be ignored


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
        garbage.collect()
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
