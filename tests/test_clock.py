"""Test tools put another clock into a loop: its timers, and asyncio's timeouts, go by that one.

asyncio's own loop has to pass the same tests: `loop.time` may be assigned, patched, and overridden.
"""

import asyncio
import math
import sys
import time
from unittest import mock

import pytest

import epoll_loop

LOOPS = [asyncio.SelectorEventLoop, epoll_loop.Loop]
OURS = pytest.mark.parametrize("loop", [epoll_loop.Loop], ids=["epoll_loop"], indirect=True)
FAR = 1e6  # seconds: what is due only by a clock that jumps


@pytest.fixture(params=LOOPS, ids=["asyncio", "epoll_loop"])
def loop(request):
    new = request.param()
    yield new
    new.close()


class Clock:
    """A clock that somebody has to move."""

    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


def turn(loop):
    """One iteration, without waiting."""
    loop.stop()
    loop.run_forever()


def test_the_usual_clock_is_the_monotonic_one(loop):
    before = time.monotonic()
    assert before <= loop.time() <= time.monotonic()


def test_an_assigned_clock_is_the_one_of_call_later(loop):
    loop.time = Clock()
    assert loop.time() == 1000.0
    assert loop.call_later(5, print).when() == 1005.0


def test_timers_fire_by_an_assigned_clock(loop):
    clock = loop.time = Clock()
    log = []
    loop.call_later(FAR, log.append, "later")
    loop.call_at(1000.0 + FAR, log.append, "at")
    turn(loop)
    assert log == []
    clock.now += FAR - 1
    turn(loop)
    assert log == []
    clock.now += 2
    turn(loop)
    assert log == ["later", "at"]


def test_a_timer_waits_when_its_clock_goes_back(loop):
    loop.time = clock = Clock()
    log = []
    loop.call_later(1, log.append, "fired")
    clock.now -= FAR
    turn(loop)
    assert log == []
    clock.now += FAR + 2
    turn(loop)
    assert log == ["fired"]


def test_the_loop_does_not_sleep_past_a_deadline_of_its_clock(loop):
    """The time to sleep is a difference of two readings: by the monotonic clock this deadline is years away."""
    loop.time = lambda: time.monotonic() + 1e9
    loop.run_until_complete(asyncio.sleep(0.001))


def test_a_clock_of_whole_numbers(loop):
    loop.time = clock = Clock(1000)
    log = []
    loop.call_later(1, log.append, "fired")
    clock.now += 2
    turn(loop)
    assert log == ["fired"]


def test_a_deadline_that_is_off_by_rounding_has_come(loop):
    """0.1 + 0.2 is more than 0.3."""
    loop.time = clock = Clock(0.1)
    log = []
    loop.call_later(0.2, log.append, "fired")
    clock.now = 0.3
    turn(loop)
    assert log == ["fired"]


@pytest.mark.parametrize("kind", LOOPS)
def test_a_clock_that_a_subclass_assigns_first(kind):
    class Loop(kind):
        def __init__(self):
            self.time = Clock(5.0)
            super().__init__()

    loop = Loop()
    assert loop.time() == 5.0
    assert loop.call_later(1, print).when() == 6.0
    loop.close()


def test_a_clock_that_is_moved_while_the_loop_runs(loop):
    """The fixture that many projects have: `advance_time(seconds)`."""

    async def main():
        usual, offset = loop.time, 0.0
        loop.time = lambda: usual() + offset
        log = []

        async def advance(seconds):
            nonlocal offset
            offset += seconds
            for _ in range(5):
                await asyncio.sleep(0)

        task = asyncio.ensure_future(asyncio.sleep(FAR, "slept"))
        task.add_done_callback(lambda _: log.append("task"))
        await asyncio.sleep(0)
        await advance(FAR / 2)
        assert log == []
        await advance(FAR / 2 + 1)
        assert log == ["task"]
        del loop.time
        assert loop.time() < usual() + 1
        return await task

    assert loop.run_until_complete(main()) == "slept"


def test_timeouts_go_by_it(loop):
    async def main():
        clock = Clock(loop.time())
        loop.time = clock
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(FAR) as timeout:
                assert timeout.when() == clock.now + FAR
                clock.now += FAR + 1
                await loop.create_future()
        waiting = asyncio.ensure_future(asyncio.wait_for(loop.create_future(), FAR))
        await asyncio.sleep(0)
        clock.now += FAR + 1
        with pytest.raises(TimeoutError):
            await waiting

    loop.run_until_complete(main())


def test_deleting_brings_the_usual_clock_back(loop):
    loop.time = Clock(-FAR)
    assert loop.time() == -FAR
    del loop.time
    assert loop.time() > 0
    assert loop.call_later(0, print).when() > 0
    loop.run_until_complete(asyncio.sleep(0.001))


def test_patched_by_a_mock(loop):
    with mock.patch.object(loop, "time", return_value=7.0) as clock:
        assert loop.call_later(1, print).when() == 8.0
        clock.assert_called_with()
    assert loop.call_later(1, print).when() != 8.0
    assert loop.time() == pytest.approx(time.monotonic(), abs=60)


def test_patched_by_pytest(loop, monkeypatch):
    usual = loop.time()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "time", lambda: -5.0)
        assert loop.call_later(1, print).when() == -4.0
    assert loop.call_later(1, print).when() >= usual + 1


def test_a_clock_that_fails_fails_its_caller(loop):
    loop.time = mock.Mock(side_effect=LookupError)
    with pytest.raises(LookupError):
        loop.call_later(1, print)
    loop.call_at(0, print)
    with pytest.raises(LookupError):
        turn(loop)
    del loop.time
    loop.run_until_complete(asyncio.sleep(0))


@pytest.mark.parametrize("kind", LOOPS)
def test_a_subclass_with_a_clock_of_its_own(kind):
    class Loop(kind):
        now = 50.0

        def time(self):
            return self.now if self.now else super().time()

    loop = Loop()
    log = []
    assert loop.call_later(FAR, log.append, "fired").when() == 50.0 + FAR
    turn(loop)
    assert log == []
    loop.now += FAR + 1
    turn(loop)
    assert log == ["fired"]
    loop.now = 0.0
    assert loop.time() == pytest.approx(time.monotonic(), abs=60)

    loop.time = Clock(3.0)
    assert loop.call_later(1, print).when() == 4.0
    del loop.time
    loop.now = 5.0
    assert loop.call_later(1, print).when() == 6.0
    loop.close()


def test_the_class_is_patched_before_the_run(loop):
    """As freezegun does, to have the time of a loop go on while all else stands still."""

    def seven(self):
        return 7.0

    with mock.patch.object(type(loop), "time", seven):
        assert loop.time() == 7.0
        seen = []
        loop.call_soon(lambda: seen.append(loop.call_later(1, print).when()))
        turn(loop)
        assert seen == [8.0]
    turn(loop)
    assert loop.call_later(1, print).when() == pytest.approx(time.monotonic(), abs=60)


@OURS
def test_the_usual_clock_is_not_to_be_found_by_what_stops_clocks(loop, monkeypatch):
    """freezegun replaces `time.monotonic` wherever a module has it. Whatever waits for our loop would wait for ever."""
    usual = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: -math.inf)
    modules = [module for name, module in sys.modules.items() if name.startswith("epoll_loop")]
    for module in modules:
        for name, value in list(vars(module).items()):
            if value is usual:
                monkeypatch.setattr(module, name, time.monotonic)
    loop.run_until_complete(asyncio.sleep(0.001))
    assert loop.time() > 0
    assert epoll_loop.run(asyncio.sleep(0.001, "slept")) == "slept"
