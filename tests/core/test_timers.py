"""The timer queue against a sorted list, and the timers of a loop: never early, in order, and gone when cancelled."""

import asyncio
import collections
import gc
import random
import weakref

import garbage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreter import not_on_pypy

import epoll_loop
from epoll_loop.core.timers import TimerHandle


class Owner:
    """What a handle asks of its loop."""

    def get_debug(self):
        return False


# Steps large enough for the queue to rebuild itself, and then with something left in it.
STEPS = st.one_of(
    st.tuples(st.just("push"), st.integers(1, 300), st.integers(0, 9)),
    st.tuples(st.just("cancel"), st.integers(0, 200), st.integers(1, 6)),
    st.tuples(st.just("run"), st.just(0), st.just(0)),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(STEPS, max_size=30))
def test_timers_are_a_sorted_list(steps):
    loop = epoll_loop.new_event_loop()
    made: list[asyncio.TimerHandle] = []
    model: list[int] = []  # sorted() is stable: equal deadlines stay in the order of scheduling
    fired: list[int] = []

    def run():
        nonlocal model
        due = sorted((n for n in model if made[n].when() <= 0), key=lambda n: made[n].when())
        model = [n for n in model if made[n].when() > 0]
        loop.stop()
        loop.run_forever()
        assert fired == due
        fired.clear()

    for step, number, choice in steps:
        if step == "push":
            rng = random.Random(choice)
            for _ in range(number):
                # Few deadlines, so that many are equal: long gone or far off.
                model.append(len(made))
                made.append(loop.call_at(rng.randint(-4, 2) * 1e9, fired.append, len(made)))
        elif step == "cancel":
            for index, timer in enumerate(made[number:]):
                if choice == 1 or index % choice:  # those that fired or are cancelled already, too
                    timer.cancel()
            model = [n for n in model if not made[n].cancelled()]
        else:
            run()
    run()
    loop.close()


def test_comparisons_are_asyncios():
    def twins(make):
        callback = print
        early, late = make(1.0, callback, (), Owner()), make(2.0, callback, (), Owner())
        same = make(1.0, callback, (), Owner())
        other = make(1.0, repr, (), Owner())
        cancelled = make(1.0, callback, (), Owner())
        cancelled.cancel()
        return [
            early < late, late < early, early < same,
            early <= late, late <= early, early <= same,
            late > early, early > late, early > same,
            late >= early, early >= late, early >= same,
            early == same, early != same, early == other, early == cancelled, early == late,
            early == 1.0, hash(early) == hash(same),
        ]  # fmt: skip

    class Debuggable(Owner):
        def _timer_handle_cancelled(self, handle):
            pass

    assert twins(TimerHandle) == twins(lambda *args: asyncio.TimerHandle(*args[:3], Debuggable()))
    with pytest.raises(TypeError):
        TimerHandle(1.0, print, (), Owner()) < 2.0  # noqa: B015


# --- on a loop


def test_never_early_and_in_order(loop):
    log = []
    timers = []
    rng = random.Random(1)

    def fire(number):
        log.append(number)
        assert loop.time() >= timers[number].when()
        if len(log) == len(timers):
            loop.stop()

    # Below a millisecond and above: the kernel is asked in different ways.
    delays = [rng.choice([0.0, 0.0002, 0.0009, 0.003, 0.02]) * rng.random() for _ in range(200)]
    timers.extend(loop.call_later(delay, fire, number) for number, delay in enumerate(delays))
    reports = []
    loop.set_exception_handler(lambda _, report: reports.append(report))
    loop.run_forever()
    assert reports == []
    assert log == sorted(range(200), key=lambda number: timers[number].when())


@pytest.mark.parametrize("delay", [0.11, 0.0501, 0.0003])
def test_a_single_sleep_is_not_early(loop, delay):
    """The loop has nothing else to do, so it is the kernel's rounding that is seen."""
    when = loop.time() + delay
    late = []
    loop.call_at(when, lambda: late.append(loop.time() - when))
    loop.call_at(when, loop.stop)
    loop.run_forever()
    assert late[0] >= 0


@pytest.mark.parametrize("ahead", [-0.5, 0.0, 0.002])
def test_equal_deadlines_fire_in_the_order_of_scheduling(loop, ahead):
    when = loop.time() + ahead
    log = []
    for number in range(100):
        loop.call_at(when, log.append, number)
    loop.call_at(when, loop.stop)
    loop.run_forever()
    assert log == list(range(100))


@pytest.mark.parametrize("when", [0.0, -1.0, -2.0, -1e9])
def test_deadlines_before_the_start_of_the_clock_are_due(loop, when):
    loop.call_at(when, loop.stop)
    loop.run_forever()


def test_a_negative_delay_is_due(loop):
    loop.call_later(-1e9, loop.stop)
    loop.run_forever()


def test_a_deadline_beyond_all_time_does_not_disturb(loop):
    log = []
    for when in (float("inf"), 1e300):
        loop.call_at(when, log.append, when)
    loop.call_later(0.002, loop.stop)
    loop.run_forever()
    assert log == []


def test_due_timers_run_in_this_iteration_behind_what_was_ready(loop):
    log = []
    loop.call_at(loop.time(), log.append, "timer")
    loop.call_soon(log.append, "ready")
    loop.stop()
    loop.run_forever()
    assert log == ["ready", "timer"]


def test_a_timer_made_by_a_timer_waits_for_the_next_iteration(loop):
    log = []

    def again():
        log.append(1)
        loop.call_later(0, again)

    loop.call_later(0, again)
    loop.stop()
    loop.run_forever()
    assert log == [1]


def test_delays_must_be_numbers(loop):
    with pytest.raises(TypeError):
        loop.call_later(None, print)
    with pytest.raises(TypeError):
        loop.call_at(None, print)
    with pytest.raises(TypeError):
        loop.call_later("1", print)
    with pytest.raises(TypeError):
        loop.call_at("5", print)


def test_what_is_not_a_number_is_refused_and_disturbs_nobody(loop):
    """It is neither before nor after another deadline."""
    log = []
    for number in range(20):
        loop.call_at(-number, log.append, number)
        for schedule in (loop.call_at, loop.call_later):
            with pytest.raises(ValueError, match="not a number"):
                schedule(float("nan"), print)
    loop.stop()
    loop.run_forever()
    assert log == list(range(19, -1, -1))
    loop.call_later(0.001, loop.stop)
    loop.run_forever()  # sleeps


@pytest.mark.parametrize("in_flight", [1, 100])
def test_cancelled_timers_do_not_pile_up(loop, in_flight):
    """A server makes one a request, and cancels nearly all of them."""
    rng = random.Random(1)
    loop.call_later(1000, print)  # one that stays, in front
    waiting: collections.deque[asyncio.TimerHandle] = collections.deque()
    alive = weakref.WeakValueDictionary()
    most = 0
    for number in range(5000):
        waiting.append(loop.call_later(2000 + rng.random(), print))
        alive[number] = waiting[-1]
        if len(waiting) > in_flight:
            waiting.popleft().cancel()
        if garbage.COUNTED or number % 1000 == 999:
            garbage.let_go()
            most = max(most, len(alive))
    assert most <= 4 * in_flight + 200


def test_cancelled_timers_in_front_are_dropped_when_due(loop):
    alive = weakref.WeakValueDictionary()
    for number in range(50):  # too few for a rebuild
        alive[number] = loop.call_at(loop.time(), print)
    for handle in list(alive.values()):
        handle.cancel()
    del handle
    loop.call_later(0, loop.stop)
    loop.run_forever()
    garbage.collect()
    assert len(alive) == 0


@not_on_pypy("the collector cannot be told after how many objects to run")
@pytest.mark.parametrize("cancels", [False, True], ids=["sets", "sets and cancels"])
@pytest.mark.parametrize("allocations", [1, 2, 3, 4, 500, 1200])
def test_a_finalizer_may_set_a_timer_while_cancelled_ones_are_dropped(loop, allocations, cancels):
    """The collector runs when it likes: here after so many objects that the cancellation makes."""

    class Scheduler:
        def __init__(self):
            self.me = self  # left to the collector

        def __del__(self):
            if cancels:
                timers[-2].cancel()
            loop.call_at(-1, fired.append, "set by the finalizer")

    fired = []
    timers = [loop.call_at(number - 1e4, int) for number in range(3000)]
    timers.append(loop.call_at(0, fired.append, "set before"))
    for timer in timers[:1490]:
        timer.cancel()
    more = timers[1490:1520]  # more than half of them, then
    thresholds = gc.get_threshold()
    gc.collect()
    gc.disable()
    try:
        Scheduler()
        gc.set_threshold(allocations)
        gc.enable()
        for timer in more:
            timer.cancel()
        gc.disable()
        gc.collect()
    finally:
        gc.set_threshold(*thresholds)
        gc.enable()
    loop.stop()
    loop.run_forever()
    assert fired == ["set by the finalizer", "set before"]
