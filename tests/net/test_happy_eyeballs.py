"""The race of RFC 8305, attempt by attempt, and the order of addresses."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from epoll_loop.net.happy_eyeballs import interleave, race

FOREVER = 3600.0


def addresses(*families: int) -> list[Any]:
    return [(family, socket.SOCK_STREAM, 6, "", number) for number, family in enumerate(families)]


@pytest.mark.parametrize(
    ("families", "count", "order"),
    [
        ((6, 6, 6, 4, 4), 1, [0, 3, 1, 4, 2]),
        ((6, 6, 6, 4, 4), 2, [0, 1, 3, 2, 4]),
        ((6, 6, 6, 4, 4), 9, [0, 1, 2, 3, 4]),
        ((4, 6, 4, 6), 1, [0, 1, 2, 3]),
        ((4, 4), 1, [0, 1]),
        ((4,), 1, [0]),
    ],
)
def test_families_alternate(families: tuple[int, ...], count: int, order: list[int]) -> None:
    assert [info[4] for info in interleave(addresses(*families), count)] == order


class Attempts:
    """Attempts by hand: which of them have started, ended and been discarded, and how each goes on."""

    def __init__(self, *bodies: Callable[[], Awaitable[Any]]) -> None:
        self.bodies = bodies
        self.started: list[int] = []
        self.ended: list[int] = []
        self.discarded: list[Any] = []

    async def attempt(self, number: int) -> Any:
        self.started.append(number)
        try:
            return await self.bodies[number]()
        finally:
            self.ended.append(number)

    async def race(self, delay: float) -> Any:
        numbers = range(len(self.bodies))
        return await race([lambda n=n: self.attempt(n) for n in numbers], delay, self.discarded.append)


async def hang() -> None:
    await asyncio.get_running_loop().create_future()


async def fail() -> None:
    raise OSError("no")


async def succeed() -> str:
    return "yes"


async def test_first_wins_and_no_other_starts() -> None:
    attempts = Attempts(succeed, hang)
    assert await attempts.race(FOREVER) == "yes"
    assert attempts.started == [0]


async def test_failure_starts_the_next_at_once() -> None:
    attempts = Attempts(fail, fail, succeed)
    assert await attempts.race(FOREVER) == "yes"
    assert attempts.started == [0, 1, 2]


async def test_delay_starts_the_next_and_the_loser_has_ended() -> None:
    attempts = Attempts(hang, succeed)
    assert await attempts.race(0.001) == "yes"
    assert attempts.started == [0, 1]
    assert sorted(attempts.ended) == [0, 1]
    assert attempts.discarded == []


async def test_failure_of_an_older_attempt_does_not_shorten_the_delay() -> None:
    loop = asyncio.get_running_loop()
    second_started = asyncio.Event()
    times: list[float] = []

    async def fail_with_the_second() -> None:
        await second_started.wait()
        raise OSError("late")

    async def second() -> None:
        times.append(loop.time())
        second_started.set()
        await hang()

    async def third() -> str:
        times.append(loop.time())
        return "third"

    assert await Attempts(fail_with_the_second, second, third).race(0.02) == "third"
    assert times[1] - times[0] >= 0.02  # an attempt is never early


async def test_all_fail() -> None:
    attempts = Attempts(fail, fail)
    assert await attempts.race(0.001) is None
    assert attempts.ended == [0, 1]


async def test_last_failure_waits_for_the_older_attempts() -> None:
    go_on = asyncio.Event()

    async def slow() -> str:
        await go_on.wait()
        return "slow"

    async def fail_and_release() -> None:
        asyncio.get_running_loop().call_soon(go_on.set)
        raise OSError("no")

    assert await Attempts(slow, fail_and_release).race(0.001) == "slow"


async def test_other_exception_ends_the_race() -> None:
    async def bug() -> None:
        raise ZeroDivisionError

    attempts = Attempts(hang, bug, succeed)
    with pytest.raises(ZeroDivisionError):
        await attempts.race(0.001)
    assert attempts.started == [0, 1]
    assert sorted(attempts.ended) == [0, 1]


async def test_second_result_is_discarded() -> None:
    both = asyncio.Event()

    async def first() -> str:
        await both.wait()
        return "first"

    async def second() -> str:
        asyncio.get_running_loop().call_soon(both.set)
        await both.wait()
        return "second"

    attempts = Attempts(first, second)
    won = await attempts.race(0.001)
    assert [won, *attempts.discarded] == ["first", "second"]


async def test_result_in_spite_of_cancellation_is_discarded() -> None:
    async def stubborn() -> str:
        try:
            await hang()
        except asyncio.CancelledError:
            return "stubborn"
        raise AssertionError

    attempts = Attempts(stubborn, succeed)
    assert await attempts.race(0.001) == "yes"
    assert attempts.discarded == ["stubborn"]


async def test_cancelling_the_race_ends_every_attempt() -> None:
    all_started = asyncio.Event()

    async def last() -> None:
        all_started.set()
        await hang()

    attempts = Attempts(hang, last)
    task = asyncio.ensure_future(attempts.race(0.001))
    await all_started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(attempts.ended) == [0, 1]


async def test_cancelled_when_it_is_won_and_the_losers_end() -> None:
    """The winner's socket is nobody's then."""

    async def loser() -> None:
        try:
            await hang()
        finally:
            task.cancel()

    attempts = Attempts(loser, succeed)
    task = asyncio.ensure_future(attempts.race(0.001))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert attempts.discarded == ["yes"]
    assert sorted(attempts.ended) == [0, 1]


async def test_exception_and_frame_do_not_hold_each_other() -> None:
    """The traceback keeps the frame of race(): with the failed task in it, they would be garbage."""

    async def bug() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        await Attempts(hang, fail, bug).race(0.001)
    (frame,) = (entry.frame.raw for entry in caught.traceback if entry.name == "race" and "attempts" in entry.locals)
    found = frame.f_locals.values()
    held = [*found, *(item for value in found if isinstance(value, (list, set)) for item in value)]
    failed = [task for task in held if isinstance(task, asyncio.Task) and not task.cancelled()]
    assert caught.value not in [task.exception() for task in failed]
