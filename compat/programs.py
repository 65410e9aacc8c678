"""Programs on each contestant, each a server with its client, or one of them, that checks what it gets by `assert`.

Those in `programs/` know nothing of this loop and are run unchanged, by `python -m epoll_loop`. Those in `use_with/`
choose it by their framework's own setting, with the line that the README gives; for the others a stand-in in
`stand_ins/` has the name `epoll_loop`.

A program prints as its last line the module of the loop that it ran on (one that brings a loop of its own says nothing
about ours), or `skipped: ` and what is missing.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from compat.contestants import environment
from compat.results import Outcome, Row

HERE = Path(__file__).parent
FOLDERS = ("programs", "use_with")
TIMEOUT = 60.0  # seconds; the slowest takes a quarter of it
GRACE = 10.0  # for a program that hangs to end what it has started

_UVLOOP = "import runpy, sys, uvloop; uvloop.install(); runpy.run_path(sys.argv[1], run_name='__main__')"
COMMANDS = {
    "asyncio": [],
    "uvloop": ["-W", "ignore::DeprecationWarning", "-c", _UVLOOP],
    "epoll_loop-pure": ["-m", "epoll_loop"],
    "epoll_loop": ["-m", "epoll_loop"],
}
LOOPS = {"asyncio": "asyncio.unix_events", "uvloop": "uvloop", "epoll_loop-pure": "epoll_loop.loop"}
LOOPS["epoll_loop"] = LOOPS["epoll_loop-pure"]


def programs() -> list[str]:
    """The programs, each as `folder/name`."""
    return [f"{folder}/{path.stem}" for folder in FOLDERS for path in sorted((HERE / folder).glob("[a-z]*.py"))]


def run_program(contestant: str, program: str) -> str:
    """Run a program; return "ok", "skipped: …", or what went wrong."""
    path = HERE / f"{program}.py"
    by_line = path.parent.name == "use_with"
    places = [str(HERE.parent), str(HERE / "services"), str(path.parent)]
    if by_line and contestant in ("asyncio", "uvloop"):
        places.insert(0, str(HERE / "stand_ins" / contestant))
    env = environment(contestant)
    env["PYTHONPATH"] = ":".join([*places, *filter(None, [env.get("PYTHONPATH")])])
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"  # the frameworks' commands
    process = subprocess.Popen(
        [sys.executable, *([] if by_line else COMMANDS[contestant]), str(path)],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            stdout, stderr = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # so that it ends the servers that it has started
            try:
                process.communicate(timeout=GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
            return f"hung: no end after {TIMEOUT:.0f} s"
    said = stderr.strip().splitlines() or [f"exit code {process.returncode}"]
    if process.returncode:
        missing = next((line for line in said if line.startswith("ModuleNotFoundError")), None)
        if missing and "epoll_loop" in missing:
            return cause([missing])  # ours to have
        return f"skipped: {missing.partition(': ')[2]}" if missing else cause(said)
    if stderr.strip():
        return f"stderr: {cause(said)}"
    last = stdout.strip().rpartition("\n")[2]
    if last.startswith("skipped: "):
        return last
    return "ok" if last == LOOPS[contestant] else f"ran on {last}"


def cause(said: list[str]) -> str:
    """The line of a standard error that tells most: that of a missing feature, or else the last one."""
    return next((line.strip(" |") for line in said if "NotImplementedError" in line), said[-1])


def rows(contestants: list[str], only: list[str], say: Callable[[str], None]) -> Iterator[Row]:
    """Run the programs, two at a time."""
    chosen = [program for program in programs() if not only or program.rpartition("/")[2] in only]

    def run(program: str) -> Row:
        outcomes = {}
        for contestant in contestants:
            say(f"{program} on {contestant}")
            outcomes[contestant] = outcome = Outcome()
            result = run_program(contestant, program)
            if result != "ok" and not result.startswith("skipped: ") and run_program(contestant, program) == "ok":
                result = "ok"  # a busy machine, most often; the report says so
                outcome.second.add(program)
            kind = "passed" if result == "ok" else "skipped" if result.startswith("skipped: ") else "failed"
            outcome.add(program, kind, result.removeprefix("skipped: "))
        return Row(program, "", outcomes)

    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(run, chosen)
