"""aiohttp's own tests, of the version that is installed, on each contestant: as it is, and on aiofastnet's transports.

Only aiohttp's source distribution carries them. pip fetches it once, into `.cache/`, and the tests run against the
aiohttp that is installed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from compat import exclusions
from compat.contestants import environment
from compat.results import Outcome, Row

CACHE = Path(__file__).parent / ".cache"
TIMEOUT = 900.0  # seconds for all of the tests on one loop; the slowest takes a quarter of it
SUITES = {"aiohttp": "0", "aiohttp on aiofastnet's transports": "1"}
# Those that speak to a socket; the others are about aiohttp's parsers.
QUICK = ("test_web_functional.py", "test_client_functional.py", "test_web_websocket_functional.py")

OPTIONS = [
    # aiohttp's options without coverage, and xdist for two processors
    *("-o", "addopts=", "-p", "compat.pytest_child", "-n", "2", "-q", "--strict-markers"),
    *("-m", "not dev_mode and not autobahn and not internal"),
    # no gc.collect() after each test: it takes most of the time
    "--aiohttp-fast",
    # its own plugin is the only one that runs coroutines
    *("-p", "no:cacheprovider", "-p", "no:asyncio", "-p", "no:anyio", "-p", "no:epoll_loop"),
]


def folder() -> Path:
    """Where the tests are; fetched when this version's are not there yet. CalledProcessError if pip can not."""
    version = metadata.version("aiohttp")
    place = CACHE / f"aiohttp-{version}"
    if not place.exists():
        with tempfile.TemporaryDirectory() as temporary:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            subprocess.run([*command, "--no-binary=aiohttp", f"--dest={temporary}", f"aiohttp=={version}"], check=True)
            (archive,) = Path(temporary).glob("*.tar.gz")
            with tarfile.open(archive) as tar:
                tar.extractall(temporary, filter="data")
            unpacked = Path(temporary, f"aiohttp-{version}")
            shutil.rmtree(unpacked / "aiohttp")  # the one that is installed is tested
            CACHE.mkdir(exist_ok=True)
            part = CACHE / f"{place.name}.part"  # whole or not at all, also if this is interrupted
            shutil.rmtree(part, ignore_errors=True)
            shutil.move(unpacked, part)
            part.rename(place)
    return place


def run(contestant: str, suite: str, arguments: list[str]) -> Outcome:
    """Run tests on a contestant; what fails once more, alone: the tests are not made for a busy machine."""
    place = folder()
    outcome = Outcome()
    reports, trouble = _child(contestant, suite, place, arguments)
    for report in reports:
        outcome.add(report["test"], report["outcome"], report["text"])
    again = [test for test, text in outcome.failures.items() if not text.startswith("killed its process")]
    for test in again if len(again) <= 50 else ():
        for report in _child(contestant, suite, place, ["-n", "0", test])[0]:
            if report["outcome"] == "passed" and outcome.failures.pop(report["test"], None) is not None:
                outcome.counts["failed"] -= 1
                outcome.add(report["test"], "passed")
                outcome.second.add(report["test"])
    if trouble:
        outcome.add("pytest", "failed", trouble)
    return outcome


def _child(contestant: str, suite: str, place: Path, arguments: list[str]) -> tuple[list[dict[str, str]], str]:
    """What pytest reported of each test, and what went wrong with pytest itself, if anything did."""
    with tempfile.TemporaryDirectory() as folder:
        output, reports = Path(folder, "output"), Path(folder, "reports")
        reports.mkdir()
        env = environment(contestant) | {
            "COMPAT_CONTESTANT": contestant,
            "COMPAT_REPORT": str(reports),
            "COMPAT_AIOFASTNET": SUITES[suite],
            "PYTHONPATH": str(Path(__file__).parent.parent),
        }
        env.pop("PYTEST_XDIST_WORKER", None)  # this may run in one
        left_out = [f"--deselect={test}" for test in exclusions.AIOHTTP]
        command = [sys.executable, "-m", "pytest", *OPTIONS, *left_out, *arguments]
        with output.open("wb") as file:
            process = subprocess.Popen(
                command, cwd=place, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
            try:
                code: int | str = process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # xdist's processes, too
                process.wait()
                code = "it did not end"
        found = [json.loads(line) for each in sorted(reports.iterdir()) for line in each.read_text().splitlines()]
        if found and code in (0, 1):  # 1: tests failed; or it could not even begin, and reported none
            return found, ""
        return found, f"{output.read_text(errors='replace')[-2000:]}\nexit code of pytest: {code}"


def rows(contestants: list[str], quick: bool, say: Callable[[str], None]) -> Iterator[Row]:
    """Run both suites; with `quick` the tests that speak to sockets, and only as aiohttp comes."""
    arguments = [f"tests/{name}" for name in QUICK] if quick else ["tests"]
    for suite in list(SUITES)[: 1 if quick else None]:
        outcomes = {}
        for contestant in contestants:
            say(f"{suite} on {contestant}")
            outcomes[contestant] = run(contestant, suite, arguments)
        yield Row(suite, "", outcomes, Counter(exclusions.AIOHTTP.values()))
