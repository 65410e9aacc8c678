"""A debugger in a callback, in a coroutine and, in the pure build, in the loop itself; and faulthandler's dumps."""

import asyncio
import faulthandler
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import epoll_loop

ROOT = Path(epoll_loop.__file__).parent.parent
LOOPS = {"asyncio": asyncio.SelectorEventLoop, "epoll_loop": epoll_loop.new_event_loop}
PURE = pytest.mark.skipif(epoll_loop.COMPILED, reason="compiled code has no lines to step through")


@pytest.fixture(params=LOOPS)
def loop(request):
    new = LOOPS[request.param]()
    yield new
    new.close()


# --- pdb

CALLBACK = """
import {module} as chosen
def callback(value):
    breakpoint()
    value += 1
    loop.stop()
    print("at the end", value)
loop = chosen.new_event_loop()
loop.call_soon(callback, 41)
loop.run_forever()
loop.close()
"""
COROUTINE = """
import asyncio, {module} as chosen
async def inner(value):
    await asyncio.sleep(0.001)
    return value + 1
async def main():
    breakpoint()
    value = await inner(41)
    print("at the end", value)
loop = chosen.new_event_loop()
loop.run_until_complete(main())
loop.close()
"""


def debug(tmp_path, program, *commands, module="epoll_loop"):
    """Give pdb these commands, one after the other; return what it says to each, and the program after the last."""
    file = tmp_path / "program.py"
    file.write_text(program.format(module=module))
    done = subprocess.run(
        [sys.executable, str(file)],
        input="".join(f"{command}\n" for command in commands),
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONBREAKPOINT": "pdb.set_trace", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    _, *answers = done.stdout.split("(Pdb) ")
    assert len(answers) == len(commands), done.stdout
    return answers


@pytest.mark.parametrize("module", ["asyncio", "epoll_loop"])
def test_a_breakpoint_in_a_callback(tmp_path, module):
    commands = ["where", "p value", "p loop.is_running()", "up", "down", "next", "p value", "continue"]
    where, value, running, *_, later, end = debug(tmp_path, CALLBACK, *commands, module=module)
    frames = [line for line in where.splitlines() if line.lstrip("> ").startswith("/")]
    assert frames[0].endswith("<module>()")
    assert any("run_forever()" in frame for frame in frames)
    assert frames[-1].endswith("callback()")
    assert value == "41\n"
    assert running == "True\n"
    assert later in ("41\n", "42\n")  # older versions stop on the breakpoint's own line
    assert end == "at the end 42\n"


@pytest.mark.parametrize("module", ["asyncio", "epoll_loop"])
def test_over_an_await(tmp_path, module):
    """The coroutine is suspended and resumed by the loop between one line and the next."""
    answers = debug(tmp_path, COROUTINE, "break 9", "continue", "p value", "continue", module=module)
    assert "program.py:9" in answers[0]
    assert answers[1].endswith('-> print("at the end", value)\n')
    assert answers[2:] == ["42\n", "at the end 42\n"]


@pytest.mark.parametrize("module", ["asyncio", "epoll_loop"])
def test_next_over_an_await(tmp_path, module):
    answers = debug(tmp_path, COROUTINE, "until 9", "p value", "continue", module=module)
    assert answers[0].endswith('-> print("at the end", value)\n')
    assert answers[1:] == ["42\n", "at the end 42\n"]


@PURE
def test_into_the_loop_and_out_again(tmp_path):
    answers = debug(
        tmp_path,
        CALLBACK,
        "import epoll_loop.core.reactor as reactor",
        "break reactor.Reactor.stop",
        "continue",
        "where",
        "p self._stopping",
        "next",
        "p self._stopping",
        "up",
        "p value",
        "continue",
    )
    assert "Breakpoint 1 at " in answers[1]
    assert answers[2].endswith("-> self._stopping = True\n")
    frames = [line for line in answers[3].splitlines() if line.lstrip("> ").startswith("/")]
    assert frames[-2].endswith("callback()")
    assert frames[-1].endswith("stop()")
    assert any("reactor.py" in frame and frame.endswith("_turns()") for frame in frames)
    assert [answers[4], answers[6], *answers[8:]] == ["False\n", "True\n", "42\n", "at the end 42\n"]


@PURE
def test_a_breakpoint_in_the_iteration(tmp_path):
    """What a reader of this package may do: stop where the loop goes to sleep, and look at its queues."""
    answers = debug(
        tmp_path,
        COROUTINE,
        "import epoll_loop.core.reactor as reactor",
        "tbreak reactor.Reactor._sleep",
        "continue",
        "p len(self._ready), len(self._timers)",
        "continue",
    )
    assert "Reactor" in answers[2] or "reactor.py" in answers[2]
    assert answers[3:] == ["(0, 1)\n", "at the end 42\n"]


# --- faulthandler


@pytest.fixture
def dump(loop):
    """A pipe for faulthandler, and a coroutine that reads what it writes, up to some words."""
    reader, writer = os.pipe()

    async def until(words):
        text = bytearray()
        found = asyncio.Event()

        def read():
            text.extend(os.read(reader, 65536))
            if words in text.decode():
                found.set()

        loop.add_reader(reader, read)
        async with asyncio.timeout(30):
            await found.wait()
        loop.remove_reader(reader)
        return text.decode()

    until.fd = writer
    yield until
    os.close(reader)
    os.close(writer)


def test_a_dump_in_a_callback(loop, dump):
    def the_callback():
        faulthandler.dump_traceback(dump.fd)

    loop.call_soon(the_callback)
    text = loop.run_until_complete(dump("in run_until_complete\n"))
    assert "in the_callback\n" in text
    assert "in run_forever\n" in text
    if isinstance(loop, epoll_loop.Loop) and not epoll_loop.COMPILED:
        assert "in _turns\n" in text


def test_a_dump_of_a_loop_that_sleeps(loop, dump):
    """By the thread that faulthandler has for it."""
    faulthandler.dump_traceback_later(0.01, file=dump.fd)
    try:
        text = loop.run_until_complete(dump("in run_until_complete\n"))
    finally:
        faulthandler.cancel_dump_traceback_later()
    assert text.startswith("Timeout (0:00:00.01")
    assert "in run_forever\n" in text


def test_a_dump_by_a_signal(loop, dump):
    """faulthandler's own handler, in C: the loop sleeps on, and is not told of the signal."""
    told = []
    faulthandler.register(signal.SIGUSR1, file=dump.fd)
    try:
        thread = threading.Thread(target=signal.pthread_kill, args=(threading.get_ident(), signal.SIGUSR1))
        loop.call_soon(thread.start)
        loop.add_signal_handler(signal.SIGUSR2, told.append, signal.SIGUSR2)
        text = loop.run_until_complete(dump("in run_until_complete\n"))
        thread.join(30)
    finally:
        faulthandler.unregister(signal.SIGUSR1)
    assert "in run_forever\n" in text
    assert told == []
