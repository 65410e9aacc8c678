"""Thousands of idle connections, all dropped at once, ten times over: nothing of them stays.

`CONNECTIONS` in the environment is how many, if not ten thousand. `-s` shows what is measured.
"""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import garbage
import pytest
from interpreter import memory_counts
from pollers import POLLER

import epoll_loop

CONNECTIONS = int(os.environ.get("CONNECTIONS", "10000" if POLLER == "epoll" else "1000"))
CYCLES = 10
SPARE = 100  # descriptors of other things, and more

# Bytes. No object is as small, so one that each connection leaves is more. The C library gives whole pages back: what
# the interpreter takes from some dozens of them stays.
ALLOWED = 32
PAGES = 128 * 4096

ROOT = Path(epoll_loop.__file__).parent.parent

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="/proc, and a network of local addresses"),
    pytest.mark.skipif(POLLER == "kqueue", reason="the double is not in a child"),
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["plain", "tls"])
@memory_counts
def test_all_dropped_at_once_and_again(kind: str) -> None:
    count = CONNECTIONS if kind == "plain" else min(CONNECTIONS // 4, 500)
    if POLLER == "select":
        count = min(count, 800)  # numbers below 1024
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < count + SPARE:
        pytest.skip(f"RLIMIT_NOFILE has a hard limit of {hard}, and this takes {count + SPARE}")
    env = {**os.environ, "PYTHONMALLOC": "malloc", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(Path(__file__).with_name("idle.py")), str(count), str(CYCLES), kind]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=280, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    cycles = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(cycle["made"], cycle["lost"]) for cycle in cycles] == [(count, count)] * CYCLES
    _, second, *_, last = cycles
    grown = last["bytes"] - second["bytes"]
    seconds = [cycle["seconds"] for cycle in cycles]
    lost, of_open = grown / count / (CYCLES - 2), (last["most"] - last["bytes"]) / count
    print(
        f"\n{count} {kind} connections: {second['bytes']} bytes after 2 cycles, {last['bytes']} after {CYCLES},"
        f" {lost:.1f} a connection; {of_open:.0f} of an open one; "
        f"{min(seconds):.2f} to {max(seconds):.2f} s a cycle"
    )
    assert [cycle["descriptors"] for cycle in cycles[2:]] == [second["descriptors"]] * (CYCLES - 2)
    if garbage.COUNTED:  # else the collector decides when
        assert [cycle["objects"] for cycle in cycles[2:]] == [second["objects"]] * (CYCLES - 2)
        assert grown <= max(PAGES, ALLOWED * count * (CYCLES - 2))
