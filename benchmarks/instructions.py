"""User-space instructions an operation: ``python -m benchmarks.instructions``, or ``make instructions``.

Every workload runs twice under ``valgrind --tool=callgrind``, with few operations and with many; the
difference of the two counts, divided by the difference in operations, is the figure, so that start-up and
shutdown drop out. It repeats however busy the machine is. What the kernel does is not in it.

``--profile ROW LOOP`` shows which functions the instructions of an operation are in.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.load import build, fetch, generate
from benchmarks.loops import ALL_LOOPS, LOOPS, why_not
from benchmarks.processes import MeasurementError
from benchmarks.tls import certificate

HERE = Path(__file__).parent
KEEP = HERE / ".build"  # where the files of --profile stay
LONGEST = 600.0  # seconds; a run that takes longer hangs
CONNECTIONS = 4
TCP = ("load", "--connections", str(CONNECTIONS))
ECHO = (*TCP, "--echo", "1024")
UDP = ("datagrams", "--sockets", "1", "--window", "16", "--bytes", "64")
WIDTH = 170  # of the tables where the output is not a terminal
# What differs from run to run and is not a loop's doing: the hashes of strings, and who writes the .pyc.
ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True)
class Row:
    title: str
    workload: str
    short: int  # operations
    long: int
    load: Sequence[str] = ()  # a row of servers.py: the load generator and its options; else one of micro.py
    path: str = ""  # over TLS: what tls.py is to fetch

    @property
    def loops(self) -> Sequence[str]:
        return ALL_LOOPS if self.path else LOOPS


@dataclass(frozen=True)
class Counted:
    """Instructions of the two runs."""

    row: Row
    short: int
    long: int

    @property
    def each(self) -> float:
        return (self.long - self.short) / (self.row.long - self.row.short)


ROWS = {
    "echo": Row("1 KiB echo, asyncio.Protocol, 4 connections", "protocol", 1_000, 11_000, ECHO),
    "streams": Row("1 KiB echo, asyncio streams, 4 connections", "streams", 1_000, 6_000, ECHO),
    "plain": Row("aiohttp plain text, 4 connections", "aiohttp", 400, 2_000, (*TCP, "--http", "/plain")),
    # Under valgrind the answer to what was sent is mostly there by the next sock_recv(): hardly any of them waits.
    "sockets": Row("1 KiB echo, sock_recv and sock_sendall, 4 connections", "sockets", 1_000, 6_000, ECHO),
    "udp": Row("UDP echo of 64 bytes, 16 in flight", "datagrams", 1_000, 11_000, UDP),
    "chain": Row("call_soon chain", "chain", 2_000, 20_000),
    "call_soon": Row("call_soon, 1,000 at a time", "call_soon", 2_000, 20_000),
    "sleep": Row("asyncio.sleep(0)", "sleep", 2_000, 20_000),
    "gather": Row("gather of 100 tasks, per task", "gather", 1_000, 6_000),
    "cancel": Row("call_later + cancel", "cancel", 2_000, 20_000),
    "timers": Row("100,000 timers firing, per timer", "timers", 20_000, 120_000),
    "abort": Row("accept + abort, per connection", "abort", 500, 2_500, (*TCP, "--connect-abort")),
    "https": Row("https, 1 KiB answers, 4 connections", "https", 500, 3_000, path="/1k"),
    "https100k": Row("https, 100 KiB answers, 4 connections", "https", 100, 400, path="/100k"),
}


def count(row: Row, loop: str, operations: int, profile: Path) -> int:
    """Instructions of one run, from the start of the interpreter to its end.

    Raises MeasurementError, with what the run said, where it fails.
    """
    callgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}", "--separate-recs=1"]
    python = [*callgrind, sys.executable, "-m"]
    connections = 0
    served = bool(row.load or row.path)
    if served:
        command = [*python, "benchmarks.servers", row.workload, "--loop", loop]
        # A server ends by itself when the last connection is gone: no signal, so no instant left to chance. With UDP
        # there is none; the signal comes after the last answer.
        if row.load[:1] != ("datagrams",):
            connections = operations if "--connect-abort" in row.load else CONNECTIONS
        command += ["--exit-after-connections", str(connections)]
    else:
        command = [*python, "benchmarks.micro", row.workload, str(operations), "--loop", loop]
    pipe = subprocess.PIPE
    environment = {**os.environ, **ENVIRONMENT}
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        watchdog = threading.Timer(LONGEST, process.kill)
        watchdog.start()
        try:
            wrong = ""
            if served and process.stdout and (port := process.stdout.readline().strip()):
                try:
                    if row.path:
                        fetch(int(port), CONNECTIONS, operations, row.path)
                    else:
                        generate(*row.load, "--port", port, "--requests", operations)
                    if not connections:
                        process.terminate()
                except MeasurementError as error:
                    wrong = str(error)
                    process.kill()  # it may wait for connections that do not come any more
            report = process.communicate()[1]
        finally:
            watchdog.cancel()
    collected = re.search(r"Collected : (\d+)", report)
    if wrong or process.returncode or not collected:
        own = re.sub(r"^==\d+==.*\n", "", report, flags=re.MULTILINE)  # without what valgrind says
        said = f"{wrong} {own.strip()[-2000:]}".strip()
        raise MeasurementError(f"{' '.join(command[5:])} ends with status {process.returncode}: {said}")
    return int(collected[1])


def count_both(row: Row, loop: str, short: Path, long: Path) -> Counted:
    return Counted(row, count(row, loop, row.short, short), count(row, loop, row.long, long))


Results = dict[str, dict[str, Counted]]  # by row and loop


def table(results: Results, loops: Sequence[str]) -> Table:
    result = Table(title="User-space instructions an operation", title_justify="left", title_style="bold")
    result.add_column("operation")
    for loop in loops:
        result.add_column(loop, justify="right")
    ratios = [loop for loop in loops if loop.startswith("epoll_loop") and "uvloop" in loops]
    for loop in ratios:
        result.add_column(f"{loop}\n÷ uvloop", justify="right")
    for name, counted in results.items():
        figures = {loop: each.each for loop, each in counted.items()}
        cells = [f"{figures[loop]:,.0f}" if loop in figures else "-" for loop in loops]
        for loop in ratios:
            both = loop in figures and "uvloop" in figures
            cells.append(f"{figures[loop] / figures['uvloop']:.2f}" if both else "-")
        result.add_row(ROWS[name].title, *cells)
    return result


def measure(names: Sequence[str], loops: Sequence[str], jobs: int, console: Console) -> Results:
    """All of the rows with all of the loops, `jobs` at a time. A pair that fails is named and left out."""
    results: Results = {name: {} for name in names}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    tty = console.is_terminal
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(*columns, console=console, transient=True, disable=not tty) as progress,
        ThreadPoolExecutor(jobs) as pool,
    ):
        pairs = [(name, loop) for name in names for loop in loops if loop in ROWS[name].loops]
        task = progress.add_task("counting", total=len(pairs))
        futures = {}
        for name, loop in pairs:
            paths = (Path(folder, f"{name}.{loop}.{run}") for run in ("short", "long"))
            futures[pool.submit(count_both, ROWS[name], loop, *paths)] = name, loop
        try:
            for future in as_completed(futures):
                name, loop = futures[future]
                try:
                    results[name][loop] = future.result()
                except MeasurementError as error:
                    console.print(f"{ROWS[name].title}: {loop} fails: {error}", style="red", markup=False)
                else:
                    if not tty:
                        each = results[name][loop].each
                        console.print(f"{ROWS[name].title}: {loop} {each:,.0f}", soft_wrap=True)
                progress.advance(task)
                progress.update(task, description=ROWS[name].title)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return results


def annotate(profile: Path, inclusive: bool) -> dict[str, int]:
    """Instructions by function, with or without what it calls, as callgrind_annotate(1) tells them."""
    command = ["callgrind_annotate", "--threshold=100", "--auto=no", "--show-percs=no"]
    command += [f"--inclusive={'yes' if inclusive else 'no'}", str(profile)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    functions: dict[str, int] = {}
    for line in lines:
        if found := re.fullmatch(r"\s*([\d,]+)\s+\S.*?:(\S.*?)(?: \[.*\])?", line):
            number, function = int(found[1].replace(",", "")), found[2]
            # A function has a line for every source file that was inlined into it; of these the greatest is
            # the nearest to all that it calls.
            known = functions.get(function, 0)
            functions[function] = max(known, number) if inclusive else known + number
    return functions


def profile(name: str, loop: str, top: int, console: Console) -> None:
    """Prints the functions that the instructions of an operation are in; start-up is taken off here too."""
    row = ROWS[name]
    KEEP.mkdir(exist_ok=True)
    short, long = (KEEP / f"callgrind.{name}.{loop}.{run}" for run in ("short", "long"))
    with console.status(f"{row.title}, {loop}: two runs under callgrind"), ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(count, row, loop, *run) for run in ((row.short, short), (row.long, long))]
        counted = Counted(row, *(run.result() for run in runs))
    operations = row.long - row.short
    own, within = (
        {function: (number - before.get(function, 0)) / operations for function, number in after.items()}
        for after, before in (
            (annotate(long, inclusive), annotate(short, inclusive)) for inclusive in (False, True)
        )
    )
    result = Table(
        title=f"{row.title}, {loop}: {counted.each:,.0f} instructions an operation",
        title_justify="left",
        title_style="bold",
    )
    for heading in ("self", "%", "inclusive"):
        result.add_column(heading, justify="right")
    result.add_column("function", overflow="fold")
    for function in sorted(own, key=own.__getitem__, reverse=True)[:top]:
        share = f"{own[function] / counted.each:.1%}"
        result.add_row(f"{own[function]:,.0f}", share, f"{within.get(function, 0):,.0f}", function)
    console.print(result)
    console.print(f"callgrind_annotate --auto=no {long}  # the whole of the longer run", soft_wrap=True)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.instructions",
        description=__doc__,
        epilog="rows:\n" + "\n".join(f"  {name:10}{row.title}" for name, row in ROWS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = lambda text: text.split(",")  # noqa: E731
    parser.add_argument("--only", type=names, default=list(ROWS), metavar="ROW,…", help="default: all")
    parser.add_argument("--loops", type=names, default=list(ALL_LOOPS), metavar="LOOP,…", help=", ".join(ALL_LOOPS))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the counts of both runs")
    parser.add_argument("--profile", nargs=2, metavar=("ROW", "LOOP"), help="of one row: which functions")
    parser.add_argument("--top", type=int, default=40, help="how many functions (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.profile:
        arguments.only, arguments.loops = ([given] for given in arguments.profile)
    for given, known in ((arguments.only, ROWS), (arguments.loops, ALL_LOOPS)):
        if unknown := [name for name in given if name not in known]:
            parser.error(f"{', '.join(unknown)}: there is only {', '.join(known)}")
    return arguments


def main() -> None:
    arguments = parse()
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    if not shutil.which("valgrind"):
        sys.exit(
            "valgrind counts the instructions, and is not on PATH. It comes with the system, not with pip:"
            " apt-get install valgrind, dnf install valgrind, pacman -S valgrind, apk add valgrind …"
        )
    for program in ("load", "datagrams"):
        build(program)
    certificate()
    wanted = {loop for name in arguments.only for loop in ROWS[name].loops}
    loops = []
    for loop in arguments.loops:
        if loop not in wanted:
            continue
        if reason := why_not(loop):
            console.print(f"[yellow]{loop} is left out: {reason}[/]")
        else:
            loops.append(loop)
    if not loops:
        sys.exit("no loop to count")
    if arguments.profile:
        [name], [loop] = arguments.only, loops
        profile(name, loop, arguments.top, console)
        return
    results = measure([name for name in ROWS if name in arguments.only], loops, arguments.jobs, console)
    for among in (LOOPS, ALL_LOOPS):
        if these := {name: counted for name, counted in results.items() if ROWS[name].loops == among}:
            console.print(table(these, [loop for loop in loops if loop in among]))
    if arguments.json:
        figures = {
            name: {
                loop: {"instructions": each.each, "short": each.short, "long": each.long}
                for loop, each in counted.items()
            }
            for name, counted in results.items()
        }
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
