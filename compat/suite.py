"""CPython's own tests of asyncio, `test.test_asyncio` of the running Python, on each contestant's loop.

Each module runs in a process of its own. A test that made no loop of the contestant says nothing about it and is
not counted; one that hangs is ended, counts as failed, and the rest goes on in a new process.
"""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from compat import exclusions
from compat.contestants import environment
from compat.results import Outcome, Row

SUITE = "test.test_asyncio"
HANG = 60.0  # seconds in which a test has to end; the slowest takes about a tenth of it
QUICK = ("test_buffered_proto", "test_sock_lowlevel", "test_streams", "test_transports", "test_unix_events")


def modules() -> list[str]:
    """The names of the test modules of the running Python; RuntimeError if it was installed without."""
    spec = importlib.util.find_spec("test")
    folders = [Path(place) / "test_asyncio" for place in (spec and spec.submodule_search_locations) or ()]
    found = sorted(path.stem for folder in folders for path in folder.glob("test_*.py"))
    if not found:
        raise RuntimeError("this Python was installed without its `test` package")
    return found


def tests_of(module: str) -> list[str]:
    """The tests of a module."""
    return [test for report in child("asyncio", module, []) for test in report.get("tests", ())]


def run_module(contestant: str, module: str, tests: list[str]) -> Outcome:
    """Run tests of a module on a contestant's loop; after one that hangs or kills the process, run the rest."""
    outcome = Outcome()
    left = list(tests)
    while left:
        running = code = None
        for report in child(contestant, module, left):
            if "started" in report:
                running = report["started"]
            elif "code" in report:
                code = report["code"]
            else:
                elsewhere = report["outcome"] != "failed" and not report["ours"]
                outcome.add(report["test"], "elsewhere" if elsewhere else report["outcome"], report["text"])
                running = None
                if report["test"] in left:
                    left.remove(report["test"])
        if running is None:
            if code != 0:  # between two tests, or after the last one
                text = f"exit code {code}; not run: {', '.join(left) or 'none'}"
                outcome.add(f"{module}, its process", "failed", text)
            break  # what is left belongs to a class or module that is skipped as a whole
        outcome.add(running, "failed", "hung, or killed the process")
        left.remove(running)
    return outcome


def child(contestant: str, module: str, tests: list[str]) -> Iterator[dict[str, Any]]:
    """What a child process reports, until it ends or a test takes too long. RuntimeError if it can not even start."""
    process = subprocess.Popen(
        [sys.executable, "-m", "compat.suite_child", contestant, module],
        cwd=Path(__file__).parent.parent,
        env=environment(contestant),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    stdout = process.stdout

    def read() -> None:
        for line in stdout:
            lines.put(line)
        lines.put(b"")

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        process.stdin.write("\n".join(tests).encode())
        process.stdin.close()
        reported = False
        while line := lines.get(timeout=HANG):
            reported = True
            yield json.loads(line)
        if process.wait(HANG) and not reported:
            raise RuntimeError(f"failed, run it to see why: python -m compat.suite_child {contestant} {module}")
        yield {"code": process.returncode}
    except (queue.Empty, subprocess.TimeoutExpired):
        yield {"code": "none: it hangs"}  # the test that was reported last, or what is between tests
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)  # also what a test has started: it may hold our pipe
        except ProcessLookupError:
            pass
        process.wait()
        reader.join()
        stdout.close()


def rows(
    contestants: list[str], only: list[str], quick: bool, excluded: bool, say: Callable[[str], None]
) -> Iterator[Row]:
    """Run the modules, or with `excluded` what else is not run of them; with `quick` those that know sockets best."""
    for module in modules():
        if (only and module not in only) or (quick and module not in QUICK):
            continue
        whole = exclusions.MODULES.get(module)
        reasons = {test: whole or exclusions.reason(module, test) for test in tests_of(module)}
        chosen = [test for test, why in reasons.items() if bool(why) == excluded]
        outcomes = {}
        for contestant in contestants if chosen else ():
            say(f"{module} on {contestant}")
            outcomes[contestant] = run_module(contestant, module, chosen)
        yield Row(SUITE, module, outcomes, Counter(why for why in reasons.values() if why))
