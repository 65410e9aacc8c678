"""Runs the rounds of a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from benchmarks.figures import Round
from benchmarks.processes import MeasurementError
from benchmarks.rows import Row, Sample, start

WARM_UP = 0.15  # seconds, once for every process


def run_row(
    row: Row,
    loops: Sequence[str],
    rounds: int,
    seconds: float,
    core: int | None = None,
    say: Callable[[str], None] = print,
) -> Iterator[Round]:
    """Yields the rounds. The row's processes start together; in a round they have a cell each, in turn.

    They run on `core`. A cell that fails is told to `say`, and empty.
    """
    if row.fresh and rounds > 1:
        for _ in range(rounds):
            yield from run_row(row, loops, 1, seconds, core, say)
        return
    with ExitStack() as stack:
        processes = {loop: start(row, loop, core) for loop in loops}
        for process in processes.values():
            stack.callback(process.stop)
        lines: dict[str, str] = {}

        def cell(loop: str, seconds: float) -> Sample:
            try:
                if loop not in lines:
                    lines[loop] = processes[loop].readline()
                return row.cell(processes[loop], lines[loop], seconds) if seconds else {}
            except (MeasurementError, OSError) as error:
                say(f"{row.title}: {loop} fails: {error}")
                return {}

        for loop in loops:
            cell(loop, 0 if row.fresh else WARM_UP)
        for _ in range(rounds):
            yield {loop: cell(loop, seconds * row.part) for loop in loops}
