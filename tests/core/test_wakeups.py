"""Wake-ups (I24): calls from other threads and from signal handlers, one write a sleep, and none of them lost."""

import os
import queue
import signal
import sys
import threading

import pytest
from lines import at_each_line, pure_only
from pollers import epoll_only

import epoll_loop


def turn(loop):
    """One iteration, without waiting."""
    loop.stop()
    loop.run_forever()


def eventfds():
    """The counter of each eventfd: the loop never reads its own, so it says how often it was written."""
    counters = {}
    for name in os.listdir("/proc/self/fdinfo"):
        try:
            with open(f"/proc/self/fdinfo/{name}") as file:
                for line in file:
                    if line.startswith("eventfd-count:"):
                        counters[int(name)] = int(line.split()[1], 16)
        except FileNotFoundError:
            pass
    return counters


@pytest.fixture
def counted():
    """A loop, and a function that says how often its eventfd was written."""
    before = eventfds()
    loop = epoll_loop.new_event_loop()
    (waker,) = eventfds().keys() - before.keys()
    yield loop, lambda: eventfds()[waker]
    loop.close()


THREADS = 8
CALLS = 2000


def send_from_threads(loop, receive):
    def send(thread):
        for number in range(CALLS):
            loop.call_soon_threadsafe(receive, thread, number)

    threads = [threading.Thread(target=send, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    return threads


def test_eight_threads_to_a_loop_that_sleeps_and_wakes(loop):
    received = [[] for _ in range(THREADS)]

    def receive(thread, number):
        received[thread].append(number)
        if sum(map(len, received)) == THREADS * CALLS:
            loop.stop()

    threads = send_from_threads(loop, receive)
    loop.run_forever()
    for thread in threads:
        thread.join()
    assert received == [list(range(CALLS))] * THREADS


@epoll_only
def test_eight_threads_to_a_loop_that_is_awake_write_no_eventfd(counted):
    loop, writes = counted
    received = [[] for _ in range(THREADS)]

    def hold():
        for thread in send_from_threads(loop, lambda thread, number: received[thread].append(number)):
            thread.join()
        loop.stop()

    loop.call_soon(hold)
    loop.run_forever()
    assert writes() == 0
    turn(loop)
    assert received == [list(range(CALLS))] * THREADS


@epoll_only
def test_one_write_a_sleep(counted):
    loop, writes = counted
    started, sent = threading.Event(), threading.Event()
    received = []

    def hold():
        started.set()
        assert sent.wait(30)

    def send():
        loop.call_soon_threadsafe(hold)
        assert started.wait(30)
        for number in range(CALLS):
            loop.call_soon_threadsafe(received.append, number)
        loop.call_soon_threadsafe(loop.stop)
        sent.set()

    thread = threading.Thread(target=send)
    thread.start()
    loop.run_forever()
    thread.join()
    assert received == list(range(CALLS))
    assert writes() <= 1


@epoll_only
def test_a_loop_that_does_not_run_is_not_woken(counted):
    loop, writes = counted
    log = []
    for thread in [threading.Thread(target=loop.call_soon_threadsafe, args=(log.append, 1)) for _ in range(9)]:
        thread.start()
        thread.join()
    assert writes() == 0
    turn(loop)
    assert log == [1] * 9


def test_every_sleep_can_be_ended(loop):
    """A ping-pong, so that the call comes now before, now after the loop falls asleep. One lost wake-up hangs."""
    questions: queue.SimpleQueue[int] = queue.SimpleQueue()
    answers = []

    def ask():
        while (number := questions.get()) < 3000:
            loop.call_soon_threadsafe(answer, number)
        loop.call_soon_threadsafe(loop.stop)

    def answer(number):
        answers.append(number)
        questions.put(number + 1)

    thread = threading.Thread(target=ask)
    thread.start()
    questions.put(0)
    loop.run_forever()
    thread.join()
    assert answers == list(range(3000))


@pure_only
@epoll_only
@pytest.mark.parametrize("who", ["another thread", "a signal handler"])
def test_no_line_on_the_way_to_sleep_loses_a_wake_up(who):
    """The calls come before each line in turn, from another thread, or from a handler that interrupts this one: some
    calls for at most one write, and all of them are there when the loop wakes."""
    state = {}

    def calls():
        state["called"] = True
        for number in range(3):
            state["loop"].call_soon_threadsafe(state["log"].append, number)
        state["loop"].call_soon_threadsafe(state["loop"].stop)

    def call():
        if who == "another thread":
            thread = threading.Thread(target=calls)
            thread.start()
            thread.join()
        else:
            calls()

    def end(loop, over):
        if not state["called"]:
            sys.settrace(None)
            over.cancel()
            loop.stop()

    def run():
        before = eventfds()
        loop = epoll_loop.new_event_loop()
        (waker,) = eventfds().keys() - before.keys()
        state.update(loop=loop, log=[], called=False)
        # Something to receive in the first iteration, so that all of its lines are run.
        loop.call_soon_threadsafe(int)
        # The end of a run whose lines were all before the calls; or the end of an overlong sleep.
        over = loop.call_later(10, state["log"].append, "overslept")
        loop.call_later(0.02, end, loop, over)

        def loop_run():
            loop.run_forever()
            sys.settrace(None)
            state["writes"] = eventfds()[waker]
            loop.close()

        return call, loop_run

    def then(line):
        assert state["log"] == [0, 1, 2], f"a call before «{line}» is lost"
        assert state["writes"] <= 1, f"calls before «{line}»"

    at_each_line(run, then)


def interrupt():
    """To the main thread: any may get what is for the process, and then nothing ends the sleep of this one."""
    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)


def test_a_signal_handler_wakes_the_loop(loop):
    before = signal.signal(signal.SIGUSR1, lambda *args: loop.call_soon_threadsafe(loop.stop))
    thread = threading.Thread(target=interrupt)
    try:
        thread.start()
        loop.run_forever()
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_i23_a_signal_without_work_does_not_end_the_loop(loop):
    handled = threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda *args: handled.set())

    def interrupt_it():
        interrupt()
        handled.wait(30)
        loop.call_soon_threadsafe(log.append, "awake")
        loop.call_soon_threadsafe(loop.stop)

    log = []
    thread = threading.Thread(target=interrupt_it)
    try:
        thread.start()
        loop.run_forever()
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert handled.is_set()
    assert log == ["awake"]
