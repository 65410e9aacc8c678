"""Profilers, tracers and the counting of memory see what runs on a loop, and the loop lets them."""

import asyncio
import cProfile
import os
import pstats
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from interpreter import has_tracemalloc, tracemalloc

import epoll_loop
from epoll_loop.core import reactor

ROOT = Path(epoll_loop.__file__).parent.parent
LOOPS = {"asyncio": asyncio.SelectorEventLoop, "epoll_loop": epoll_loop.new_event_loop}
PURE = pytest.mark.skipif(epoll_loop.COMPILED, reason="compiled code has no frames and no lines")
TIMES = 10


@pytest.fixture(params=LOOPS)
def loop(request):
    new = LOOPS[request.param]()
    yield new
    new.close()


def callback():
    return len("callback")


async def work():
    for _ in range(TIMES):
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(callback)
    await asyncio.sleep(0)


def calls(profile):
    """How often each function was called, by the names of its file and of itself."""
    stats = pstats.Stats(profile).stats
    return {(Path(file).name, name): total for (file, _, name), (_, total, *_) in stats.items()}


def test_cprofile(loop):
    profile = cProfile.Profile()
    profile.runcall(loop.run_until_complete, work())
    found = calls(profile)
    here = Path(__file__).name
    assert found[here, "callback"] == TIMES
    assert found[here, "work"] == TIMES + 2  # each resumption is a call


@PURE
def test_cprofile_sees_into_the_loop():
    profile = cProfile.Profile()
    profile.runcall(epoll_loop.run, work())
    found = calls(profile)
    assert found["reactor.py", "_run"] >= 1
    assert found["reactor.py", "_run_once"] > TIMES
    assert found["reactor.py", "call_soon"] > TIMES


def test_cprofile_as_a_command(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import asyncio\nasync def main_of_the_program(): await asyncio.sleep(0.001)\n"
                       "asyncio.run(main_of_the_program())\n")  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "cProfile", "-m", "epoll_loop", str(program)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert done.stderr == ""
    assert "(main_of_the_program)" in done.stdout
    assert "(run_until_complete)" in done.stdout


def test_setprofile(loop):
    events = []

    def profile(frame, event, arg):
        if frame.f_code is callback.__code__:
            events.append(event)

    sys.setprofile(profile)
    try:
        loop.run_until_complete(work())
        assert sys.getprofile() is profile
    finally:
        sys.setprofile(None)
    assert [event for event in events if not event.startswith("c_")] == ["call", "return"] * TIMES


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring came with Python 3.12")
def test_monitoring(loop):
    monitoring = sys.monitoring
    tool = monitoring.OPTIMIZER_ID
    started, ended = [], []
    monitoring.use_tool_id(tool, "epoll_loop tests")
    try:
        events = monitoring.events
        monitoring.register_callback(tool, events.PY_START, lambda code, _: started.append(code))
        monitoring.register_callback(tool, events.PY_RETURN, lambda code, _, value: ended.append((code, value)))
        monitoring.set_events(tool, events.PY_START | events.PY_RETURN)
        loop.run_until_complete(work())
    finally:
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)
    assert started.count(callback.__code__) == TIMES
    assert ended.count((callback.__code__, len("callback"))) == TIMES
    if not epoll_loop.COMPILED:
        assert started.count(reactor.Reactor._run_once.__code__) > TIMES


def test_settrace(loop):
    """What debuggers and the measuring of coverage are made of."""
    seen = []

    def trace(frame, event, arg):
        if frame.f_code in (callback.__code__, work.__code__):
            seen.append((frame.f_code.co_name, event))
            return trace
        return None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        loop.run_until_complete(work())
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)
    assert seen.count(("callback", "line")) == TIMES
    assert [event for name, event in seen if name == "callback"] == ["call", "line", "return"] * TIMES
    assert seen.count(("work", "call")) == TIMES + 2


def test_settrace_in_a_thread(loop):
    seen = set()

    def trace(frame, event, arg):
        seen.add(frame.f_code)

    threading.settrace(trace)
    try:
        thread = threading.Thread(target=loop.run_until_complete, args=(work(),))
        thread.start()
        thread.join(30)
    finally:
        threading.settrace(None)
    assert {callback.__code__, work.__code__} <= seen


def test_a_trace_function_that_fails_is_reported_to_the_task(loop):
    def trace(frame, event, arg):
        if frame.f_code is callback.__code__:
            raise LookupError("the trace function's")

    async def main():
        reports = []
        loop.set_exception_handler(lambda _, report: reports.append(report["exception"]))
        loop.call_soon(callback)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return reports

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        reports = loop.run_until_complete(main())
        assert sys.gettrace() is None  # Python's rule
    finally:
        sys.settrace(before)
    assert [str(report) for report in reports] == ["the trace function's"]


@has_tracemalloc
def test_tracemalloc_finds_no_growth():
    """Handles are used again and again, and the memory that it counts stays as it is."""
    loop = epoll_loop.new_event_loop()

    async def rounds():
        for _ in range(2000):
            loop.call_soon(callback)
            loop.call_later(0, callback)
            loop.call_later(1000, callback).cancel()
            await asyncio.sleep(0)

    tracemalloc.start()
    try:
        loop.run_until_complete(rounds())
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(3):
            loop.run_until_complete(rounds())
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        loop.close()
    assert after - before < 100_000  # of 18,000 callbacks


@has_tracemalloc
@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.11 does not find it for objects with a __dict__")
def test_tracemalloc_knows_where_a_transport_was_made():
    """What is left open says so, and where it comes from."""
    program = """
import asyncio, socket, tracemalloc, epoll_loop
tracemalloc.start(10)

async def main():
    ours, peer = socket.socketpair()
    peer.detach()  # and so open for ever
    await asyncio.get_running_loop().create_unix_connection(MyProtocol, sock=ours)

class MyProtocol(asyncio.Protocol):
    def connection_lost(self, exc): pass

loop = epoll_loop.new_event_loop()
loop.run_until_complete(main())
loop.close()
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert "ResourceWarning: unclosed transport" in done.stderr
    assert "Object allocated at" in done.stderr
    assert 'File "<string>", lineno' in done.stderr
