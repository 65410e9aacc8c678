"""What is measured: every row has what each loop runs for it, and how one cell of it is measured."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks import tls
from benchmarks.load import build, run_datagrams, run_http, run_https, run_load
from benchmarks.loops import ALL_LOOPS, LOOPS
from benchmarks.processes import MeasurementError, Process

CONNECTIONS = 32
ECHO_BYTES = 1024
DATAGRAM_BYTES = 64
IN_FLIGHT = 16  # datagrams, on one socket
FEW, MANY = 500, 4000  # idle connections: what is there, what is added
FEW_TLS, MANY_TLS = 100, 1000
BARE_C = "C epoll"

Sample = dict[str, float]
Cell = Callable[[Process, str, float], Sample]  # the process, the line that it printed, seconds


class Column(NamedTuple):
    heading: str
    metric: str
    relative_to: str | None = None
    form: str = ",.0f"


RATE = (
    Column("{unit}\nper second", "rate"),
    Column("\nx uvloop", "rate", "uvloop", ".2f"),
    Column("\nx asyncio", "rate", "asyncio", ".2f"),
)
CPU = (
    Column("CPU µs\nper {one}", "cpu_us", form=".1f"),
    Column("\nuser", "user_us", form=".1f"),
    Column("\nsystem", "system_us", form=".1f"),
    Column("CPU\nx uvloop", "cpu_us", "uvloop", ".2f"),
)
LATENCY = (Column("\np50 µs", "p50_us"), Column("\np99 µs", "p99_us"))


@dataclass(frozen=True)
class Row:
    title: str
    subject: tuple[str, str]  # module and workload
    cell: Cell
    columns: tuple[Column, ...]
    unit: str = "requests"
    part: float = 1.0  # of the seconds of a cell: what varies little needs less, what begins with handshakes more
    fresh: bool = False  # every cell in a process of its own
    enough: int = 1000  # rounds, where they are long and all alike
    limit: tuple[str, ...] = ()  # a C program to run beside the loops, and its options
    tls: bool = False
    needs: str = ""  # a program that has to be on PATH

    @property
    def loops(self) -> tuple[str, ...]:
        """The contestants that differ here."""
        return ALL_LOOPS if self.tls else LOOPS


def throughput(measure: Cell) -> Cell:
    """Adds the rate, and the CPU time of a request as the kernel accounts for it over the cell."""

    def cell(process: Process, line: str, seconds: float) -> Sample:
        cpu, (user, system) = process.cpu_seconds(), process.cpu_ticks()
        sample = measure(process, line, seconds)
        cpu = (process.cpu_seconds() - cpu) / sample["requests"] * 1e6
        user_after, system_after = process.cpu_ticks()
        user, system = user_after - user, system_after - system
        share = user / (user + system or 1)
        rate = sample["requests"] / sample["seconds"]
        return {**sample, "rate": rate, "cpu_us": cpu, "user_us": cpu * share, "system_us": cpu * (1 - share)}

    return cell


def http(path: str) -> Cell:
    return throughput(lambda process, port, seconds: run_http(int(port), CONNECTIONS, seconds, path))


def https(path: str, *headers: str) -> Cell:
    """The handshakes that a run of wrk begins with are in the figures."""
    return throughput(lambda process, port, seconds: run_https(int(port), CONNECTIONS, seconds, path, *headers))


def load(*mode: object) -> Cell:
    return throughput(
        lambda process, port, seconds: run_load(int(port), CONNECTIONS, "--seconds", seconds, *mode)
    )


def datagrams(sockets: int, window: int) -> Cell:
    return throughput(
        lambda process, port, seconds: run_datagrams(
            int(port), sockets, window, "--seconds", seconds, "--bytes", DATAGRAM_BYTES
        )
    )


def inside(process: Process, line: str, seconds: float) -> Sample:
    """A cell that the process runs by itself: see inprocess.py."""
    process.writeline(str(seconds))
    return json.loads(process.readline())


def resident(few: int, many: int, connect: Callable[[int], socket.socket]) -> Cell:
    """Bytes of resident memory that each of `many` more connections costs."""

    def cell(process: Process, port: str, seconds: float) -> Sample:
        with ExitStack() as stack:

            def settled_with(number: int) -> int:
                for _ in range(number):
                    stack.enter_context(connect(int(port)))
                return settled(process, descriptors + number)

            descriptors = process.descriptors()
            before = settled_with(few)
            descriptors += few
            return {"bytes": (settled_with(many) - before) / many}

    return cell


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port))


def settled(process: Process, descriptors: int) -> int:
    """Resident bytes once the process has that many descriptors and no longer uses the CPU."""
    deadline = time.monotonic() + 20
    used = -1.0
    while process.descriptors() < descriptors or used != process.cpu_seconds():
        if time.monotonic() > deadline:
            raise MeasurementError(f"{process.descriptors()} of {descriptors} descriptors after 20 s")
        used = process.cpu_seconds()
        time.sleep(0.03)
    return process.resident_bytes()


ROWS: Mapping[str, Row] = {
    "plain": Row(
        "aiohttp, plain text, 32 keep-alive connections",
        ("servers", "aiohttp"),
        http("/plain"),
        RATE + CPU + LATENCY,
    ),
    "json": Row(
        "aiohttp, JSON, 32 keep-alive connections",
        ("servers", "aiohttp"),
        http("/json"),
        RATE + CPU + LATENCY,
    ),
    "echo": Row(
        "1 KiB echo, asyncio.Protocol, 32 connections",
        ("servers", "protocol"),
        load("--echo", ECHO_BYTES),
        RATE + CPU + LATENCY,
        limit=("echo",),
    ),
    "streams": Row(
        "1 KiB echo, asyncio streams, 32 connections",
        ("servers", "streams"),
        load("--echo", ECHO_BYTES),
        RATE + CPU + LATENCY,
    ),
    "sockets": Row(
        "1 KiB echo, sock_recv and sock_sendall, 32 connections",
        ("servers", "sockets"),
        load("--echo", ECHO_BYTES),
        RATE + CPU + LATENCY,
    ),
    "udp": Row(
        f"UDP echo of {DATAGRAM_BYTES} bytes, {IN_FLIGHT} in flight on one socket",
        ("servers", "datagrams"),
        datagrams(1, IN_FLIGHT),
        (*RATE, *CPU, *LATENCY, Column("\nlost", "lost")),
        unit="datagrams",
        limit=("echo", "--datagrams"),
    ),
    "accept": Row(
        "accept + abort, C client with 32 connections at a time",
        ("servers", "abort"),
        load("--connect-abort"),
        RATE + CPU + LATENCY,
        part=0.5,
        unit="pairs",
    ),
    "pairs": Row(
        "connect + accept + abort, both ends in one loop",
        ("inprocess", "pairs"),
        throughput(inside),
        RATE + CPU,
        part=0.5,
        unit="pairs",
    ),
    "spawns": Row(
        "create_subprocess_exec of /bin/true and wait, one after the other",
        ("inprocess", "spawns"),
        throughput(inside),
        RATE + CPU,
        part=0.5,
        unit="spawns",
    ),
    "spawns8": Row(
        "create_subprocess_exec of /bin/true and wait, 8 at a time",
        ("inprocess", "spawns8"),
        throughput(inside),
        RATE + CPU,
        part=0.5,
        unit="spawns",
    ),
    "sleep": Row(
        "asyncio.sleep(0.0003)",
        ("inprocess", "sleep"),
        inside,
        (
            Column("mean overshoot µs", "overshoot_us", form=",.1f"),
            Column("earliest µs", "earliest_us", form=",.1f"),
        ),
        part=0.3,
    ),
    "idle": Row(
        f"idle asyncio.Protocol connections, {MANY:,} added to {FEW:,}",
        ("servers", "idle"),
        resident(FEW, MANY, connect),
        (Column("resident bytes each", "bytes"), Column("x uvloop", "bytes", "uvloop", ".2f")),
        fresh=True,
    ),
    "https": Row(
        "https, 1 KiB answers of an asyncio.Protocol, 32 keep-alive connections",
        ("servers", "https"),
        https("/1k"),
        RATE + CPU + LATENCY,
        part=1.5,
        limit=("https", str(tls.CERTIFICATE)),
        tls=True,
        needs="wrk",
    ),
    "https100k": Row(
        "https, 100 KiB answers of an asyncio.Protocol, 32 keep-alive connections",
        ("servers", "https"),
        https("/100k"),
        RATE + CPU + LATENCY,
        part=1.5,
        limit=("https", str(tls.CERTIFICATE)),
        tls=True,
        needs="wrk",
    ),
    "handshakes": Row(
        "https, 1 KiB answers, a connection and a full handshake for each, 32 at a time",
        ("servers", "handshakes"),
        # wrk has about as much to do for a handshake as the server: CPU time tells more than the rate.
        https("/1k", "Connection: close"),
        RATE + CPU,
        unit="handshakes",
        tls=True,
        needs="wrk",
    ),
    "aiohttps": Row(
        "aiohttp over https, plain text, 32 keep-alive connections",
        ("servers", "aiohttps"),
        https("/plain"),
        RATE + CPU + LATENCY,
        part=1.5,
        tls=True,
        needs="wrk",
    ),
    "idletls": Row(
        f"idle asyncio.Protocol connections over TLS, {MANY_TLS:,} added to {FEW_TLS:,} one after the other",
        ("servers", "idletls"),
        resident(FEW_TLS, MANY_TLS, tls.connect),
        (
            Column("resident bytes each", "bytes"),
            Column("x uvloop", "bytes", "uvloop", ".2f"),
            Column("x asyncio", "bytes", "asyncio", ".2f"),
        ),
        fresh=True,
        enough=2,
        tls=True,
    ),
}


def start(row: Row, loop: str, core: int | None) -> Process:
    if row.tls:
        tls.certificate()
    if loop == BARE_C:
        program, *options = row.limit
        return Process([build(program), *options], core)
    module, workload = row.subject
    return Process([sys.executable, "-m", f"benchmarks.{module}", workload, "--loop", loop], core)
