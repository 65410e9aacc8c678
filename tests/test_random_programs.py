"""Random programs on one connection, against a model of what asyncio promises: see `random_programs/`.

hypothesis makes up the programs: what two ends write, pause, resume, close, abort and so on, from outside of the loop,
in callbacks of it and in those of the protocols, between runs of any number of turns. asyncio's own loop is the judge
of the model. `EXAMPLES=2000` in the environment is how many programs each test tries.
"""

import asyncio
import os

import garbage
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from random_programs.machine import Program

import epoll_loop

EXAMPLES = int(os.environ.get("EXAMPLES", "40"))
STEPS = 25

LOOPS = {"epoll_loop": epoll_loop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}
PROGRAMS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    derandomize=False,  # hypothesis would, where it finds itself in CI
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.timeout(300 + EXAMPLES)  # what fails is made smaller, and each attempt may wait
@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("kind", ["tcp", "unix", "pipe", "tls"])
def test_a_random_program(kind: str, name: str) -> None:
    members = {"kind": kind, "new_loop": staticmethod(LOOPS[name]), "exact": name != "asyncio"}
    garbage.collect()
    before = garbage.ours()
    run_state_machine_as_test(type("Program", (Program,), members), settings=PROGRAMS)
    garbage.collect()
    grown = {name: count for name, count in garbage.ours().items() if count > before.get(name, 0)}
    assert grown == {} or not garbage.COUNTED
