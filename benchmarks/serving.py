"""serve() next to asyncio's protocols and to bare C: ``python -m benchmarks.serving``, or ``make bench-serve``.

Measured as ``python -m benchmarks`` does it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping

from rich.console import Console

from benchmarks.__main__ import WIDTH, available, prepare, table
from benchmarks.callbacks import LOOPS, SERVE
from benchmarks.figures import Round
from benchmarks.load import build, run_load
from benchmarks.processes import Process
from benchmarks.rows import BARE_C, CONNECTIONS, LATENCY, Column, Row, Sample, load, throughput
from benchmarks.runner import run_row

PIPELINE = 16
COLUMNS = (
    Column("{unit}\nper second", "rate"),
    Column("\nx uvloop", "rate", "uvloop", ".2f"),
    Column("CPU µs\nper {one}", "cpu_us", form=".2f"),
    Column("\nuser", "user_us", form=".2f"),
    Column("\nsystem", "system_us", form=".2f"),
    Column("CPU\nx uvloop", "cpu_us", "uvloop", ".2f"),
    Column("CPU\nx C epoll", "cpu_us", BARE_C, ".2f"),
    *LATENCY,
)


def get(process: Process, port: str, seconds: float) -> Sample:
    return run_load(int(port), CONNECTIONS, "--seconds", seconds, "--http", "/")


def echo(size: int, *options: object) -> Row:
    flight = f", {PIPELINE} in flight" if options else ""
    title = f"echo of {size:,} bytes, {CONNECTIONS} connections{flight}"
    return Row(title, ("callbacks", "echo"), load("--echo", size, *options), COLUMNS, limit=("echo",))


ROWS: Mapping[str, Row] = {
    "echo64": echo(64),
    "echo1k": echo(1024),
    "echo64k": echo(65536),
    "pipeline": echo(64, "--pipeline", PIPELINE),
    "http": Row(
        f"plain HTTP reply, {CONNECTIONS} keep-alive connections",
        ("callbacks", "http"),
        throughput(get),
        COLUMNS,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(ROWS), metavar="ROW,…")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    arguments = parser.parse_args()
    if unknown := set(arguments.only) - ROWS.keys():
        parser.error(f"{', '.join(unknown)}: there is only {', '.join(ROWS)}")
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    began = time.monotonic()
    core = prepare(console)
    build("echo")
    loops = [*available([loop for loop in LOOPS if loop != SERVE], console), SERVE]
    for name in arguments.only:
        row = ROWS[name]
        subjects = [*loops, *[BARE_C] * bool(row.limit)]
        rounds: list[Round] = list(run_row(row, subjects, arguments.rounds, arguments.seconds, core, console.print))
        console.print(f"[bold]{row.title}[/]", table(row, rounds, subjects, console.width < WIDTH), sep="\n")
    console.print(f"{time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
