"""The iteration: its order, and that nothing in it starves anything else."""

import socket
import subprocess
import sys
import threading


def turn(loop):
    """One iteration, without waiting."""
    loop.stop()
    loop.run_forever()


def test_first_in_first_out(loop):
    log = []
    for number in range(1000):
        loop.call_soon(log.append, number)
    turn(loop)
    assert log == list(range(1000))


def test_i21_an_iteration_runs_what_was_ready_when_it_began(loop):
    log = []

    def again(number):
        log.append(number)
        loop.call_soon(again, number + 10)

    for number in range(3):
        loop.call_soon(again, number)
    turn(loop)
    assert log == [0, 1, 2]
    turn(loop)
    assert log == [0, 1, 2, 10, 11, 12]


def test_i21_a_callback_that_always_comes_back_starves_nobody(loop):
    """Neither timers nor descriptors nor other threads."""
    ours, peer = socket.socketpair()
    waiting = {"timer", "descriptor", "thread"}

    def seen(who):
        waiting.discard(who)
        if not waiting:
            loop.stop()

    def always():
        loop.call_soon(always)

    always()
    loop.call_later(0.001, seen, "timer")
    loop.add_reader(ours, seen, "descriptor")
    peer.send(b"x")
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(seen, "thread"))
    thread.start()
    loop.run_forever()
    thread.join()
    loop.remove_reader(ours)
    ours.close()
    peer.close()


def test_threadsafe_and_plain_calls_of_one_thread_keep_their_order(loop):
    log = []

    def calls(start):
        loop.call_soon_threadsafe(log.append, start)
        loop.call_soon(log.append, start + 1)
        loop.call_soon_threadsafe(log.append, start + 2)
        loop.call_soon(log.append, start + 3)

    calls(0)
    turn(loop)
    assert log == [0, 1, 2, 3]
    loop.call_soon(calls, 4)
    turn(loop)
    turn(loop)
    assert log == list(range(8))


def test_dropping_a_long_queue_is_no_recursion(loop):
    for _ in range(200_000):
        loop.call_soon(print)
    loop.close()


NOT_INITIALISED = """
import asyncio, socket, sys
import epoll_loop

class Bare(epoll_loop.Loop):
    def __init__(self):
        pass

ours, peer = socket.socketpair()
values = {"fd": ours.fileno(), "f": int, "0": 0, "1": 1, "coro": asyncio.sleep(0), "sock": ours, "b": b"x"}
for call in sys.argv[1:]:
    name, *arguments = call.split()
    for loop in Bare(), epoll_loop.Loop.__new__(epoll_loop.Loop):
        try:
            getattr(loop, name)(*(values[argument] for argument in arguments))
        except (RuntimeError, AttributeError, TypeError):
            said = "refused"
        else:
            said = "harmless"
        print(said, call, flush=True)  # the last line before a crash
"""
HARMLESS = ["is_running", "is_closed", "get_debug", "time", "stop", "close", "__repr__"]
REFUSED = [
    "call_soon f", "call_soon_threadsafe f", "call_later 0 f", "call_at 0 f", "create_task coro",
    "add_reader fd f", "add_writer fd f", "run_forever", "run_until_complete coro",
]  # fmt: skip
EITHER = ["remove_reader fd", "remove_writer fd", "create_future", "set_debug 1", "shutdown_default_executor"]


def test_without_init_everything_is_an_exception_at_worst():
    calls = HARMLESS + REFUSED + EITHER
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", NOT_INITIALISED, *calls],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 2 * len(calls)
    assert not {f"harmless {call}" for call in REFUSED}.intersection(said)


DROPPED = """
import gc
import epoll_loop

class WithoutOurs(epoll_loop.Loop):
    def __del__(self):
        pass

loop = WithoutOurs()
for _ in range(250_000):
    loop.call_soon(int)
del loop
gc.collect()
print("alive")
"""


def test_a_long_queue_that_nobody_has_cleared_is_no_recursion():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DROPPED], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.stdout.split() == ["alive"], done.stderr
    assert done.returncode == 0
