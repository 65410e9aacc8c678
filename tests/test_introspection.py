"""Looking at the tasks of a loop: from inside, from another thread, and from another process."""

import asyncio
import contextlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import epoll_loop

ROOT = Path(epoll_loop.__file__).parent.parent
LOOPS = {"asyncio": asyncio.SelectorEventLoop, "epoll_loop": epoll_loop.new_event_loop}
CALL_GRAPHS = pytest.mark.skipif(sys.version_info < (3, 14), reason="asyncio's call graphs came with Python 3.14")
EAGER = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")


@pytest.fixture(params=LOOPS)
def loop(request):
    new = LOOPS[request.param]()
    yield new
    new.close()


# --- all_tasks, current_task


def test_all_tasks_and_the_current_one(loop):
    async def child():
        assert asyncio.current_task().get_name() == "child"
        await asyncio.sleep(0)

    async def main():
        this = asyncio.current_task()
        task = asyncio.create_task(child(), name="child")
        assert asyncio.all_tasks() == asyncio.all_tasks(loop) == {this, task}
        assert asyncio.current_task(loop) is this
        loop.call_soon(lambda: seen.append(asyncio.current_task()))
        await task
        assert asyncio.all_tasks() == {this}

    seen = []
    task = loop.create_task(main(), name="main")
    assert asyncio.all_tasks(loop) == {task}
    loop.run_until_complete(task)
    assert seen == [None]
    assert asyncio.all_tasks(loop) == set()
    with pytest.raises(RuntimeError):
        asyncio.all_tasks()


@EAGER
def test_eager_tasks_too(loop):
    async def child(event):
        seen.append(asyncio.current_task())
        await event.wait()
        seen.append(asyncio.current_task())

    async def main():
        event = asyncio.Event()
        this = asyncio.current_task()
        task = asyncio.create_task(child(event))
        assert seen == [task]
        assert asyncio.current_task() is this
        assert asyncio.all_tasks() == {this, task}
        event.set()
        await task
        assert seen == [task, task]
        assert asyncio.all_tasks() == {this}

    seen = []
    loop.set_task_factory(asyncio.eager_task_factory)
    loop.run_until_complete(main())


def test_of_loops_in_several_threads(loop):
    others = [epoll_loop.new_event_loop() for _ in range(3)]
    barrier = threading.Barrier(len(others) + 1, timeout=30)
    failures = []

    async def main(other, event):
        asyncio.current_task().set_name(f"main of {id(other)}")
        children = [asyncio.create_task(event.wait()) for _ in range(10)]
        await asyncio.sleep(0)
        barrier.wait()  # all of them have their tasks
        mine = {asyncio.current_task(), *children}
        if asyncio.all_tasks() != mine or asyncio.all_tasks(other) != mine:
            failures.append(other)
        barrier.wait()  # seen from outside by now
        event.set()
        await asyncio.gather(*children)

    events = [asyncio.Event() for _ in others]
    threads = [
        threading.Thread(target=other.run_until_complete, args=(main(other, event),))
        for other, event in zip(others, events, strict=True)
    ]
    for thread in threads:
        thread.start()
    barrier.wait()
    for other in others:
        tasks = asyncio.all_tasks(other)
        assert len(tasks) == 11
        assert f"main of {id(other)}" in {task.get_name() for task in tasks}
    loop.run_until_complete(asyncio.sleep(0))
    assert asyncio.all_tasks(loop) == set()
    barrier.wait()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    for other in others:
        assert asyncio.all_tasks(other) == set()
        other.close()
    assert failures == []


def test_the_stack_of_a_task(loop):
    async def inner():
        await loop.create_future()

    async def main():
        task = asyncio.create_task(inner(), name="inner")
        await asyncio.sleep(0)
        (frame,) = task.get_stack()
        assert frame.f_code.co_name == "inner"
        shown = io.StringIO()
        task.print_stack(file=shown)
        assert "await loop.create_future()" in shown.getvalue()
        task.cancel()

    loop.run_until_complete(main())


# --- call graphs


@CALL_GRAPHS
def test_the_call_graph_of_a_task(loop):
    async def inner():
        await asyncio.sleep(1000)

    async def outer():
        async with asyncio.TaskGroup() as group:
            group.create_task(inner(), name="inner")

    async def main():
        task = asyncio.create_task(outer(), name="outer")
        for _ in range(3):
            await asyncio.sleep(0)
        (child,) = asyncio.all_tasks() - {task, asyncio.current_task()}
        graph = asyncio.capture_call_graph(child)
        assert [entry.frame.f_code.co_name for entry in graph.call_stack] == ["sleep", "inner"]
        (awaited_by,) = graph.awaited_by
        assert awaited_by.future is task
        shown = io.StringIO()
        asyncio.print_call_graph(child, file=shown)
        assert "name='inner'" in shown.getvalue()
        assert "name='outer'" in shown.getvalue()
        task.cancel()

    loop.run_until_complete(main())


@CALL_GRAPHS
def test_the_call_graph_of_the_current_task(loop):
    async def deeper():
        return asyncio.capture_call_graph(), asyncio.format_call_graph()

    async def main():
        return await deeper()

    graph, text = loop.run_until_complete(loop.create_task(main(), name="this one"))
    names = [entry.frame.f_code.co_name for entry in graph.call_stack]
    assert names[:2] == ["deeper", "main"]
    assert "name='this one'" in text


# --- from another process

TARGET = """
import asyncio, sys, epoll_loop

async def leaf():
    await asyncio.sleep(1000)

async def branch():
    async with asyncio.TaskGroup() as group:
        group.create_task(leaf(), name="left leaf")
        group.create_task(leaf(), name="right leaf")

async def until_end_of_input():
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(0, ended.set)
    await ended.wait()
    loop.remove_reader(0)

async def main():
    task = asyncio.create_task(branch(), name="the branch")
    await asyncio.sleep(0.001)
    print("ready", flush=True)
    await until_end_of_input()
    task.cancel()

epoll_loop.run(main())
"""


@contextlib.contextmanager
def target() -> Iterator[int]:
    """A process with a tree of tasks on our loop."""
    command = [sys.executable, "-c", TARGET]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process.pid
            process.stdin.close()
            assert process.wait(30) == 0
        finally:
            process.kill()


def tool(*words: str) -> str:
    """What `python -m asyncio …` says of another process."""
    done = subprocess.run(
        [sys.executable, "-m", "asyncio", *words], capture_output=True, text=True, timeout=50, check=False
    )
    if "PermissionError" in done.stderr or "Operation not permitted" in done.stderr or "root" in done.stderr:
        pytest.skip(f"another process's memory may not be read here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return done.stdout


@CALL_GRAPHS
def test_asyncio_ps():
    with target() as pid:
        lines = tool("ps", str(pid)).splitlines()
    (left,) = [line for line in lines if "left leaf" in line]
    assert "leaf" in left.replace("left leaf", "")
    assert "the branch" in left  # which awaits it
    assert any("right leaf" in line for line in lines)


@CALL_GRAPHS
def test_asyncio_pstree():
    with target() as pid:
        tree = tool("pstree", str(pid))
    for name in ("the branch", "left leaf", "right leaf"):
        assert name in tree
    assert tree.index("the branch") < tree.index("left leaf")
