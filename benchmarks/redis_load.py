"""examples/redis_server.py next to redis-server itself, by redis-benchmark: requests a second."""

from __future__ import annotations

import csv
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.table import Table

from benchmarks.processes import MeasurementError

ROOT = Path(__file__).parent.parent
HOST = "127.0.0.1"
COMMANDS = ("SET", "GET")
PIPELINES = (1, 8, 16)
CONNECTIONS = 32
REQUESTS = 20_000  # for each that is in flight
START_TIMEOUT = 20.0

EXAMPLE, REDIS = "examples/redis_server.py", "redis-server"
Rates = dict[tuple[str, int, str], float]  # by server, pipeline and command


def missing() -> str:
    """What is not on PATH, empty if all is."""
    return ", ".join(name for name in (REDIS, "redis-benchmark") if not shutil.which(name))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


@contextmanager
def server(name: str, core: int | None) -> Iterator[int]:
    """A server on a core; yields its port."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = {
            EXAMPLE: [sys.executable, str(ROOT / EXAMPLE), f"tcp://{HOST}:{port}"],
            REDIS: [REDIS, "--port", str(port), "--bind", HOST, "--save", "", "--appendonly", "no", "--dir", folder],
        }[name]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                if core is not None:
                    os.sched_setaffinity(process.pid, {core})
                wait_for(port)
                yield port
            finally:
                process.terminate()


def wait_for(port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            socket.create_connection((HOST, port)).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise MeasurementError(f"nobody listens for {START_TIMEOUT:.0f} s") from None
            time.sleep(0.02)


def load(port: int, pipeline: int) -> dict[str, float]:
    """One run of redis-benchmark: requests a second, by command."""
    command = ["redis-benchmark", "-p", str(port), "-P", str(pipeline), "-c", str(CONNECTIONS), "--csv"]
    command += ["-n", str(REQUESTS * pipeline), "-t", ",".join(COMMANDS).lower()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MeasurementError(done.stderr.strip() or f"redis-benchmark ended with status {done.returncode}")
    rows = {row[0]: row[1] for row in csv.reader(done.stdout.splitlines()) if row}
    return {name: float(rows[name]) for name in COMMANDS}


def measure(rounds: int, core: int | None) -> Rates:
    """The medians over interleaved rounds."""
    found: dict[tuple[str, int, str], list[float]] = {}
    with ExitStack() as stack:
        ports = {name: stack.enter_context(server(name, core)) for name in (EXAMPLE, REDIS)}
        for _ in range(rounds):
            for pipeline in PIPELINES:
                for name, port in ports.items():
                    for command, rate in load(port, pipeline).items():
                        found.setdefault((name, pipeline, command), []).append(rate)
    return {key: statistics.median(rates) for key, rates in found.items()}


def table(rates: Rates) -> Table:
    """Side by side."""
    result = Table("requests a second", *(f"{name} -P {p}" for p in PIPELINES for name in COMMANDS))
    for name in (EXAMPLE, REDIS):
        result.add_row(name, *(f"{rates[name, p, command]:,.0f}" for p in PIPELINES for command in COMMANDS))
    return result
