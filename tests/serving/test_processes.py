"""What a worker process tells the parent, until its end."""

import asyncio
import multiprocessing
import os
import pickle

import pytest
from recording import LIMIT

from epoll_loop.serving import processes
from epoll_loop.serving.processes import Process

pytestmark = pytest.mark.usefixtures("tracker", "no_descriptor_left")


class Place:
    """Keeps what it is told."""

    def __init__(self):
        self.released_count = 0
        self.over = asyncio.get_running_loop().create_future()

    def released(self, count):
        self.released_count += count

    def taken(self):
        pass

    def leaves(self):
        pass

    def untaken(self, pairs):
        assert pairs == []

    def ended(self, how, error):
        self.over.set_result((how, error))


class Releasing:
    """In place of a job: tells of many connections, one by one, and fails."""

    count = 150  # more than are read at once, and no more than the kernel takes

    async def serve(self, index, sockets, owner):
        for _ in range(self.count):
            owner.released()
            await asyncio.sleep(0)
        raise ZeroDivisionError("at the end")


def found_in(pid):
    if pid != os.getpid():
        raise ImportError("there is no such exception here")
    return Strange("x")


class Strange(Exception):
    """It can be had in the process that it comes from, and in no other."""

    def __reduce__(self):
        return found_in, (os.getpid(),)


class Failing:
    def __init__(self, error):
        self.error = error

    async def serve(self, index, sockets, owner):
        raise self.error("why")


class Local:
    """One with an exception that can not be pickled."""

    async def serve(self, index, sockets, owner):
        class Hidden(Exception):
            pass

        raise Hidden("why")


def start(job):
    place = Place()
    return place, Process(asyncio.get_running_loop(), pickle.dumps(job), 0, [], place)


async def test_all_that_it_has_told_before_its_end():
    """Nothing was read until then."""
    place, process = start(Releasing())
    process._process.join(LIMIT)
    async with asyncio.timeout(LIMIT):
        how, error = await place.over
    assert how.endswith("has ended with exit code 1")
    assert type(error) is ZeroDivisionError
    assert place.released_count == Releasing.count


@pytest.mark.parametrize(
    ("job", "error", "text"),
    [
        (Failing(ZeroDivisionError), ZeroDivisionError, "why"),
        (Failing(Strange), RuntimeError, "Strange: why"),
        (Local(), RuntimeError, "Hidden: why"),
    ],
    ids=["usual", "not to be had here", "not to be pickled"],
)
async def test_the_exception_of_a_worker(job, error, text):
    """As it is, or in words; with where it was raised."""
    place, _ = start(job)
    async with asyncio.timeout(LIMIT):
        _, found = await place.over
    assert (type(found), str(found)) == (error, text)
    assert "in serve" in str(found.__cause__)


async def test_a_process_that_can_not_be_watched_is_ended(monkeypatch):
    def fail(*args):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(processes, "ExitWatch", fail)
    with pytest.raises(RuntimeError, match="can't start"):
        start(Releasing())
    assert multiprocessing.active_children() == []
