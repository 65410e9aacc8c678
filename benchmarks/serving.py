"""serve() next to asyncio's protocols and to bare C: ``python -m benchmarks.serving``, or ``make bench-serve``.

Measured as ``python -m benchmarks`` does it. Where redis-server is installed, examples/redis_server.py is measured next
to it by redis-benchmark. `--charts FOLDER` draws what was measured. What is to be reached is judged below each table
and not by the exit status: this is a measurement.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from benchmarks import charts, redis_load
from benchmarks.__main__ import WIDTH, available, prepare, table
from benchmarks.callbacks import LOOPS, SERVE
from benchmarks.figures import Round, figure
from benchmarks.load import build, run_load
from benchmarks.processes import Process
from benchmarks.rows import BARE_C, CONNECTIONS, LATENCY, Column, Row, Sample, load, throughput
from benchmarks.runner import run_row
from benchmarks.targets import Judgement, judge

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
        limit=("echo", "--http"),
    ),
}


# The pictures of the rows, and in the order of their panels what each of these has on it.
CHARTS = {
    f"echo, {CONNECTIONS} connections": (
        "echo.svg",
        {"echo64": "64 bytes", "pipeline": f"64 bytes, {PIPELINE} in flight", "echo1k": "1 KiB", "echo64k": "64 KiB"},
    ),
    f"plain HTTP reply, {CONNECTIONS} keep-alive connections": ("http.svg", {"http": ""}),
}


def draw(folder: Path, rates: dict[str, dict[str, float]], redis: redis_load.Rates | None) -> None:
    """Write the charts of what was measured, the rates by row and contestant."""
    folder.mkdir(parents=True, exist_ok=True)
    for title, (file, panels) in CHARTS.items():
        if found := {panel: rates[row] for row, panel in panels.items() if rates.get(row)}:
            charts.draw(title, found, folder / file)
    for p in redis_load.PIPELINES if redis else ():
        found = {
            command: {name: redis[name, p, command] for name in (redis_load.EXAMPLE, redis_load.REDIS)}
            for command in redis_load.COMMANDS
        }
        title = f"redis-benchmark -P {p}, {redis_load.CONNECTIONS} connections"
        charts.draw(title, found, folder / f"pipeline{p}.svg")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(ROWS), metavar="ROW,…")
    parser.add_argument(
        "--charts", type=Path, metavar="FOLDER", help="draw echo, http, pipeline1, pipeline8 and pipeline16 there"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-redis", action="store_true")
    parser.add_argument("--seconds", type=float, default=0.5)
    arguments = parser.parse_args()
    if unknown := set(arguments.only) - ROWS.keys():
        parser.error(f"{', '.join(unknown)}: there is only {', '.join(ROWS)}")
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    began = time.monotonic()
    core = prepare(console, wrk=False)
    build("echo")
    rates: dict[str, dict[str, float]] = {}
    judged: list[Judgement] = []
    loops = [*available([loop for loop in LOOPS if loop != SERVE], console), SERVE]
    for name in arguments.only:
        row = ROWS[name]
        subjects = [*loops, BARE_C]
        rounds: list[Round] = list(run_row(row, subjects, arguments.rounds, arguments.seconds, core, console.print))
        console.print(f"[bold]{row.title}[/]", table(row, rounds, subjects, console.width < WIDTH), sep="\n")
        judgements = judge(rounds, SERVE)
        console.print(*(f"{SERVE}: {judgement}" for judgement in judgements), "", sep="\n")
        judged += judgements
        medians = {loop: figure(rounds, loop, "rate") for loop in subjects}
        rates[name] = {loop: spread[0] for loop, spread in medians.items() if spread}
    redis = None
    if why := redis_load.missing():
        console.print(f"[yellow]no Redis: {why} not on PATH[/]")
    elif not arguments.no_redis:
        redis = redis_load.measure(arguments.rounds, core)
        title = f"[bold]Redis' protocol, {redis_load.CONNECTIONS} connections[/]"
        console.print(title, redis_load.table(redis), sep="\n")
    if arguments.charts:
        draw(arguments.charts, rates, redis)
    console.print(f"targets met: {sum(judgement.met for judgement in judged)} of {len(judged)}")
    console.print(f"{time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
