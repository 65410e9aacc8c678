"""The load generators: wrk where it is on PATH and speaks the protocol, else load.c and datagrams.c, built here."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from contextlib import ExitStack, closing
from functools import cache
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

from benchmarks.processes import MeasurementError
from benchmarks.tls import client_context

HERE = Path(__file__).parent
LIBRARIES = {"https": ("openssl/ssl.h", "-lssl", "-lcrypto")}  # the programs that need some: a header, the libraries
UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}


def build(name: str) -> Path:
    """Compiles `name`.c into benchmarks/.build, unless that is newer; returns the program's path."""
    source, program = HERE / f"{name}.c", HERE / ".build" / name
    changed = max(path.stat().st_mtime for path in (source, *HERE.glob("*.h")))
    if not program.exists() or program.stat().st_mtime < changed:
        program.parent.mkdir(exist_ok=True)
        _, *libraries = LIBRARIES.get(name, ("",))
        subprocess.run(["cc", "-O2", "-Wall", "-o", program, source, *libraries], check=True)
    return program


@cache
def missing_header(name: str) -> str:
    """The header without which `name`.c cannot be built here; empty where it can."""
    header, *_ = LIBRARIES.get(name, ("",))
    command = ["cc", "-fsyntax-only", "-include", header, "-x", "c", "/dev/null"]
    return header if header and subprocess.run(command, capture_output=True, check=False).returncode else ""


def run_load(port: int, connections: int, *options: object) -> dict[str, float]:
    """One run of load.c, whose head tells the options: requests, seconds, p50_us, p99_us."""
    return generate("load", "--port", port, "--connections", connections, *options)


def run_datagrams(port: int, sockets: int, window: int, *options: object) -> dict[str, float]:
    """One run of datagrams.c, `window` datagrams under way on each socket: the same as `run_load`, and lost."""
    return generate("datagrams", "--port", port, "--sockets", sockets, "--window", window, *options)


def generate(program: str, *options: object) -> dict[str, float]:
    """One run of a load generator of ours. Raises MeasurementError with what it complains of."""
    command = [str(build(program)), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MeasurementError(done.stderr.strip() or f"{program} ended with status {done.returncode}")
    return json.loads(done.stdout)


def run_http(port: int, connections: int, seconds: float, path: str) -> dict[str, float]:
    """Keep-alive GETs of `path`; returns the same as `run_load`."""
    if not shutil.which("wrk"):
        return run_load(port, connections, "--seconds", seconds, "--http", path)
    return run_wrk(f"http://127.0.0.1:{port}{path}", connections, seconds)


def run_https(port: int, connections: int, seconds: float, path: str, *headers: str) -> dict[str, float]:
    """The same over TLS, and with `headers`; this takes wrk."""
    return run_wrk(f"https://127.0.0.1:{port}{path}", connections, seconds, *headers)


def run_wrk(url: str, connections: int, seconds: float, *headers: str) -> dict[str, float]:
    command = ["wrk", "-t1", f"-c{connections}", "-d60s", "--latency", url, *(f"-H{header}" for header in headers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as wrk:
        time.sleep(seconds)
        wrk.send_signal(signal.SIGINT)  # -d takes whole seconds only; this ends it with its usual report
        output = wrk.communicate(timeout=10)[0]
    return parse_wrk(output)


def fetch(port: int, connections: int, requests: int, path: str) -> None:
    """Keep-alive GETs, one on each of the connections at a time.

    A blocking client in Python: for a server that is slowed down. Raises MeasurementError where an answer is not a 200.
    """
    clients = [HTTPSConnection("127.0.0.1", port, timeout=60, context=client_context()) for _ in range(connections)]
    with ExitStack() as stack:
        try:
            for client in clients:
                stack.enter_context(closing(client)).connect()
            for first in range(0, requests, connections):
                busy = clients[: requests - first]
                for client in busy:
                    client.request("GET", path)
                for client in busy:
                    answer = client.getresponse()
                    answer.read()
                    if answer.status != 200:
                        raise MeasurementError(f"not a 200: {answer.status} {answer.reason}")
        except (OSError, HTTPException) as error:
            raise MeasurementError(f"{type(error).__name__}: {error}") from error


def parse_wrk(output: str) -> dict[str, float]:
    """wrk's ``--latency`` report: requests, seconds, p50_us, p99_us.

    Raises MeasurementError if it tells of a request that went wrong, or of none.
    """
    for complaint in ("Non-2xx or 3xx responses", "Socket errors", "unable to connect"):
        if complaint in output:
            raise MeasurementError(next(line.strip() for line in output.splitlines() if complaint in line))
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)\b", output)
    latency = dict(re.findall(r"^\s*(\d+)%\s+([\d.]+(?:us|ms|s|m))$", output, re.MULTILINE))
    if not total or not {"50", "99"} <= latency.keys():
        raise MeasurementError(f"wrk printed no result: {output.strip()!r}")
    if not int(total[1]):
        raise MeasurementError("wrk had no answer in the time given")
    return {
        "requests": int(total[1]),
        "seconds": float(total[2]) * UNITS[total[3]] / 1e6,
        "p50_us": microseconds(latency["50"]),
        "p99_us": microseconds(latency["99"]),
    }


def microseconds(text: str) -> float:
    """'1.23ms' → 1230.0"""
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()  # type: ignore[union-attr]
    return float(number) * UNITS[unit]
