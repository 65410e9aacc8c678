"""Programs that know nothing of this loop, in `programs/`, run unchanged on each contestant.

Each is a server with its client, or one of them, checks what it gets by `assert`, and prints as its last line the
module of the loop that it ran on: a program that brings a loop of its own says nothing about ours.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from compat.contestants import environment

FOLDER = Path(__file__).parent / "programs"
TIMEOUT = 60.0  # seconds; the slowest takes about two

_UVLOOP = "import runpy, sys, uvloop; uvloop.install(); runpy.run_path(sys.argv[1], run_name='__main__')"
COMMANDS = {
    "asyncio": [],
    "uvloop": ["-W", "ignore::DeprecationWarning", "-c", _UVLOOP],
    "epoll_loop-pure": ["-m", "epoll_loop"],
    "epoll_loop": ["-m", "epoll_loop"],
}
LOOPS = {"asyncio": "asyncio.unix_events", "uvloop": "uvloop", "epoll_loop-pure": "epoll_loop.loop"}
LOOPS["epoll_loop"] = LOOPS["epoll_loop-pure"]
STYLES = {"ok": "green", "not installed": "dim", "not there yet": "yellow"}  # anything else is a failure


def names() -> list[str]:
    """The names of the programs."""
    return sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))


def run_program(contestant: str, name: str) -> str:
    """Run a program; return "ok", "not installed", or what went wrong."""
    env = environment(contestant)
    root = str(FOLDER.parent.parent)
    env["PYTHONPATH"] = f"{root}:{env['PYTHONPATH']}" if env.get("PYTHONPATH") else root
    # uvloop has no such option: its programs find their neighbours by the path.
    env["PYTHONPATH"] += f":{FOLDER}"
    try:
        done = subprocess.run(
            [sys.executable, *COMMANDS[contestant], str(FOLDER / f"{name}.py")],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        return f"hung: no end after {TIMEOUT:.0f} s"
    said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    if done.returncode:
        missing = [line for line in said if line.startswith("ModuleNotFoundError")]
        return "not installed" if missing else cause(said)
    if done.stderr.strip():
        return f"stderr: {cause(said)}"
    loop = done.stdout.strip().rpartition("\n")[2]
    return "ok" if loop == LOOPS[contestant] else f"ran on {loop}"


def cause(said: list[str]) -> str:
    """The line of a standard error that tells most: that of a missing feature, or else the last one."""
    return next((line.strip(" |") for line in said if "NotImplementedError" in line), said[-1])


def run(console: Console, contestants: list[str], only: list[str]) -> bool:
    """Run the programs and print the table; return whether they are well (uvloop may fail)."""
    table = Table(title=f"programs, unchanged, on Python {sys.version.split()[0]}")
    table.add_column("program", no_wrap=True)
    for contestant in contestants:
        table.add_column(contestant)
    good = True
    with Live(table, console=console, vertical_overflow="visible"):
        for name in names():
            if only and name not in only:
                continue
            results = [run_program(contestant, name) for contestant in contestants]
            table.add_row(name, *(Text(result, STYLES.get(kind(result), "red")) for result in results))
            by_name = zip(contestants, results, strict=True)
            good &= all(kind(result) in STYLES for contestant, result in by_name if contestant != "uvloop")
    console.line()
    return good


def kind(result: str) -> str:
    """What sort of result it is."""
    return "not there yet" if "NotImplementedError: epoll_loop " in result else result
