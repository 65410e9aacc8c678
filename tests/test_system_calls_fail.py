"""Every call into the kernel fails once, with each error that its man page lists, or does a part of its work.

The programs of `faults/` run meanwhile, on the loop of either build: bytes arrive whole and in order, or the connection
ends with what was wrong; nothing is left open or alive, and the next client is served. The calls of the C library fail
in the compiled build, and those of `core/syscalls` in the pure one. `DEPTH=5` has the second to the fifth call of each
name fail as well, each in a run of its own, and those of the C library in the pure build too.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import preload
import pytest
from interpreter import PATIENCE
from preload import needs_preload

import epoll_loop

FAULTS = Path(__file__).parent / "faults"
ROOT = Path(epoll_loop.__file__).parent.parent
TIMEOUT = 50 * PATIENCE * int(os.environ.get("DEPTH", "1"))

# What each program is sure to call of the C library, in either build; in a list, one of them.
STREAMS = ["accept4", "bind", "close", "epoll_create1", "epoll_ctl", "epoll_wait", "listen", "recv", "socket"]
CALLS: dict[str, list[Any]] = {
    "echo": [*STREAMS, "sendmsg"],
    "buffered": [*STREAMS, "sendmsg"],
    "secure": [*STREAMS, ["send", "sendmsg"]],
    "proxy": [*STREAMS, "connect", ["send", "sendmsg"]],
    "http": [*STREAMS, ["sendfile", "sendfile64"], ["send", "sendmsg"]],
    "datagrams": ["bind", "epoll_ctl", "socket", ["recvfrom", "recvmmsg"], ["sendto", "sendmmsg"]],
    "sockets": ["accept4", "epoll_ctl", "recv", "send"],
    "children": ["close", "epoll_ctl", "pidfd_open", "read", "write"],
}

# And of `core/syscalls`, in the pure build.
OWN = ["EpollSet", "EpollSet.add", "accept", "close", "recv"]
INJECTED: dict[str, list[Any]] = {
    "echo": [*OWN, "sendmsg"],
    "buffered": ["accept", "recv_into", "sendmsg"],
    "secure": [*OWN, ["send", "sendmsg"]],
    "proxy": [*OWN, ["send", "sendmsg"]],
    "http": [*OWN, ["send", "sendmsg"]],
    "datagrams": ["EpollSet.add", "recv_datagrams", "send_datagrams"],
    "sockets": ["EpollSet.add", "try_recv", "try_send"],
    "children": ["EpollSet.add", "read", "write"],
}


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    return preload.compiled(FAULTS / "faults.c", tmp_path_factory.mktemp("faults") / "faults.so")


def complaints(case):
    """What is wrong with what a fault did."""
    if case["failure"] and not case["of the system"]:
        yield f"failed with {case['failure']}"
    if case["transient"] and (case["failure"] or set(case["seen"]) != {"whole"}):
        yield f"clients saw {case['seen']}, failed with {case['failure']}"
    if case["unknown"]:
        yield f"reported {case['reported']}"
    if case["unlost"]:
        yield f"{case['unlost']} connections without their one connection_lost()"
    if case["descriptors"]:
        yield f"left open: {case['descriptors']}"
    if case["objects"]:
        yield f"left alive: {case['objects']}"


def run(program, means, calls, environment):
    """Run a program under faults; all is as it should be after each of them, and those calls failed."""
    command = [sys.executable, str(FAULTS / "child.py"), program, means]
    env = {**environment, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=2 * TIMEOUT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    called = {case["call"] for case in cases}
    for names in calls:
        assert called & ({names} if isinstance(names, str) else set(names)), f"{names} never failed"
    wrong = [
        f"{case['call']}, {case['answer']}, call {case['number']}: {complaint}"
        for case in cases
        for complaint in complaints(case)
    ]
    assert wrong == []


@pytest.mark.timeout(2 * TIMEOUT)
@needs_preload
@pytest.mark.skipif(not epoll_loop.COMPILED and "DEPTH" not in os.environ, reason="the pure build has its own calls")
@pytest.mark.parametrize("program", CALLS)
def test_a_call_of_the_c_library_fails_once(library, program):
    run(program, "library", CALLS[program], preload.environment(library))


@pytest.mark.timeout(2 * TIMEOUT)
@pytest.mark.skipif(epoll_loop.COMPILED, reason="what is compiled calls the C library")
@pytest.mark.parametrize("program", INJECTED)
def test_a_call_of_syscalls_fails_once(program):
    run(program, "injected", INJECTED[program], os.environ)
