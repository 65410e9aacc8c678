"""Runs the rounds of a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from benchmarks.figures import Round
from benchmarks.processes import MeasurementError, Process
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

    They run on `core`. A loop that fails is named by `say`, and left out from there on.
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

        def attempt(loop: str, step: Callable[[str, Process], Sample]) -> Sample:
            if loop in processes:
                try:
                    return step(loop, processes[loop])
                except (MeasurementError, OSError) as error:
                    say(f"{row.title}: {loop} fails: {error}")
                    del processes[loop]
            return {}

        def ready(loop: str, process: Process) -> Sample:
            lines[loop] = process.readline()
            return {} if row.fresh else row.cell(process, lines[loop], WARM_UP)

        def cell(loop: str, process: Process) -> Sample:
            return row.cell(process, lines[loop], seconds * row.part)

        for loop in loops:
            attempt(loop, ready)
        for _ in range(rounds):
            yield {loop: attempt(loop, cell) for loop in loops}
