"""The soak: a short run of it, and that it sees what is lost."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest
from interpreter import memory_counts

import epoll_loop

pytest.importorskip("trustme")

from reliability.soak import report, run  # noqa: F401, what it imports enters the faults
from reliability.soak.content import Wrong
from reliability.soak.fault import FAULTS, whose
from reliability.soak.held import Held
from reliability.soak.record import Record

ROOT = Path(__file__).parent.parent


def held(first=0, last=0, descriptors=3):
    made = Held(600.0, before=(0, 3), after=(0, descriptors))
    made.memory = [(0.0, 0), (60.0, first), (540.0, last), (600.0, last)]
    return made


def record():
    """Of a run in which all is well."""
    made = Record()
    made.faults.update(FAULTS.keys())
    return made


def judged(record, held):
    report.judge(record, held)
    return [*record.lost, *record.unexpected]


@memory_counts
@pytest.mark.timeout(150)
def test_a_short_run_loses_nothing():
    command = [sys.executable, "-m", "reliability.soak", "--minutes", "0.12", "--seed", "7"]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=140)
    assert child.returncode == 0, child.stdout + child.stderr
    assert child.stderr == ""
    lines = child.stdout.splitlines()
    assert lines[1].startswith(f"epoll_loop {epoll_loop.__version__}, {'compiled' if epoll_loop.COMPILED else 'pure'} ")
    assert lines[2] == "0.12 minutes, --seed 7"
    assert lines[-1] == "Nothing lost."
    assert "Unexpected errors: 0" in lines
    for name in FAULTS:
        assert re.search(rf"^ {name} +[1-9]", child.stdout, re.MULTILINE), name
    for kind in ("https echo", "http websocket", "tls echo", "udp echo"):
        row = re.search(rf"^ {kind} +([\d,]+) +([\d,]+) +([\d,]+) *$", child.stdout, re.MULTILINE)
        asked, apart, answered = (int(number.replace(",", "")) for number in row.groups())
        assert asked + apart == answered > 0


async def test_a_request_without_the_right_answer_is_lost():
    made = record()
    async with made.request("good"):
        pass
    async with made.request("wrong"):
        raise Wrong("not what was sent")
    assert judged(made, held()) == ["wrong, in the loop: Wrong('not what was sent')"]
    assert not made.good()


async def test_a_task_that_is_cancelled_in_a_request_leaves_it_unanswered():
    made = record()

    async def ask():
        async with made.request("cancelled"):
            await asyncio.Event().wait()

    task = asyncio.create_task(ask())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert judged(made, held()) == ["cancelled, in the loop: asked and not answered"]


@pytest.mark.parametrize("name", FAULTS)
def test_an_error_is_expected_where_its_fault_may_cause_it(name):
    fault, made = FAULTS[name], record()
    for side, errors in (("client", fault.client), ("server", fault.server)):
        for error in errors:
            made.seen(fault, side, error)
    assert made.good()
    made.seen(fault, "server", ValueError("no"))
    made.seen(None, "server", ConnectionResetError())
    assert made.unexpected.total() == 2
    assert not made.good()


async def test_what_is_not_expected_of_a_fault_comes_out():
    made, fault = record(), FAULTS["closed port"]
    async with made.fault(fault):
        raise ConnectionRefusedError
    assert made.good()
    async with made.fault(fault):
        raise ConnectionResetError
    assert made.unexpected.total() == 1
    async with made.fault(fault):
        raise Wrong("connected")
    assert made.lost.total() == 1


def test_errors_are_known_by_the_address():
    for fault in FAULTS.values():
        assert whose((fault.address, 1234)) is fault
        assert whose(f"Error handling request from {fault.address}") is fault
        assert whose(f"\0soak-1-{fault.number}-9".encode()) is fault
    for peer in (("127.0.0.1", 1234), b"", "", None, "/tmp/soak-1-1-1"):
        assert whose(peer) is None


def test_what_is_left_in_the_end_is_lost():
    assert judged(record(), held()) == []
    assert judged(record(), held(last=report.MAY_GROW)) == []
    assert len(judged(record(), held(last=report.MAY_GROW + 1))) == 1
    assert judged(record(), held(descriptors=4)) == ["descriptors are left open"]
    with_objects = held()
    with_objects.left["epoll_loop.transports.stream.StreamTransport"] = 2
    assert judged(record(), with_objects) == ["left: epoll_loop.transports.stream.StreamTransport"]
    made = record()
    del made.faults["kill"]
    assert judged(made, held()) == ["kill: never put in"]
    made = record()
    made.tallies.update({"timers scheduled": 1, "connections of echoes made": 1})
    assert judged(made, held()) == [
        "timers scheduled are not those fired and cancelled",
        "connection_lost() is not called once a connection",
    ]
