"""Everything that the loop does, together and for long: ``python -m reliability.soak``, or ``make soak``.

aiohttp with and without TLS, raw protocols, UDP, subprocesses, timers, threads and signals in one loop, with good
clients that check every byte, and with clients that vanish, stall, flood, send garbage and are cancelled. The exit
status is 0 if nothing was lost: every request of a good client was answered, and right; no error was seen but those
that a fault may cause where it was put in; no memory, descriptor, task or transport is left.
Ctrl+C ends it early. Under ``python -X tracemalloc`` it also prints where memory grew.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

WIDTH = 120  # where the output is not a terminal


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m reliability.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10, help="fractions are well too (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of what is sent and of what is put in when; by default the time")
    parser.add_argument("--pure", action="store_true", help="on the pure build (EPOLL_LOOP_PURE=1)")
    options = parser.parse_args()
    if not options.minutes > 0:
        parser.error("--minutes: more than 0")
    return options


def main() -> int:
    """Do what the command line says; 0 if nothing was lost."""
    options = parse()
    if options.pure:
        os.environ["EPOLL_LOOP_PURE"] = "1"
    import epoll_loop  # not before it is known which build is asked for
    from reliability.soak import complaints, held, report, run
    from reliability.soak.content import LIMIT
    from reliability.soak.progress import Progress
    from reliability.soak.record import Record
    from reliability.soak.world import World

    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    seed = int(time.time()) if options.seed is None else options.seed
    build = "compiled" if epoll_loop.COMPILED else "pure"
    console.print(f"Python {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} CPUs")
    version = f"epoll_loop {epoll_loop.__version__}, {build} build"
    console.print(f"{version} on {epoll_loop.POLLER}, TLS: {epoll_loop.TLS_ENGINE}")
    console.print(f"{options.minutes:g} minutes, --seed {seed}")

    before = held.objects()
    holding = held.Held(options.minutes * 60)
    record = Record()
    # A loop that hangs is no reason to hang: everything has its limit, and this is for what they do not reach.
    faulthandler.dump_traceback_later(options.minutes * 60 + 10 * LIMIT, exit=True)
    with tempfile.TemporaryDirectory() as folder, complaints.counted(record):
        world = World(record, seed, options.minutes * 60, Path(folder))
        progress = Progress(console, world)
        holding.before = held.memory(), held.descriptors()
        with progress.shown(), asyncio.Runner(loop_factory=epoll_loop.new_event_loop) as runner:
            runner.run(run.soak(world, holding, progress))
        del runner, world, progress  # and with them the loop
        holding.left = held.objects() - before
        holding.after = held.memory(), held.descriptors()
    faulthandler.cancel_dump_traceback_later()
    report.judge(record, holding)
    report.show(console, record, holding)
    return 0 if record.good() else 1


if __name__ == "__main__":
    sys.exit(main())
