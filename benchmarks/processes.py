"""The processes that are measured: started, pinned to a core, asked what they used, stopped."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

START_TIMEOUT = 20.0


class MeasurementError(Exception):
    """A process did not do what it was started for; the text says what it said."""


class Process:
    """A child that prints one line (a server: its port) when it is ready."""

    def __init__(self, command: Sequence[str | Path], core: int | None = None) -> None:
        pipe = subprocess.PIPE
        self._errors = os.memfd_create("stderr")
        self._child = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=self._errors, text=True, bufsize=1
        )
        self.pid = self._child.pid
        if core is not None:
            os.sched_setaffinity(self.pid, {core})

    def readline(self) -> str:
        """The next line that it prints; raises MeasurementError where none comes."""
        stdout = self._child.stdout
        assert stdout is not None
        if not select.select([stdout], [], [], START_TIMEOUT)[0]:
            raise MeasurementError(f"prints nothing for {START_TIMEOUT:.0f} s")
        if not (line := stdout.readline()):
            self._child.wait(START_TIMEOUT)
            self.check()
        return line.strip()

    def writeline(self, line: str) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(line + "\n")

    def check(self) -> None:
        """Raises MeasurementError where it has ended."""
        if (status := self._child.poll()) is not None:
            raise MeasurementError(f"ends with status {status}")

    def complaint(self) -> str:
        """The last line that it wrote to stderr; empty where there is none."""
        # pread(2): the position in the file is the child's too.
        written = os.pread(self._errors, 1 << 20, 0)
        return written.decode(errors="replace").strip().rpartition("\n")[2]

    def stop(self) -> str:
        """SIGTERM, and SIGKILL for what does not end by it; returns its last complaint."""
        self._child.terminate()
        try:
            self._child.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.communicate()
        complaint = self.complaint()
        os.close(self._errors)
        return complaint

    def cpu_seconds(self) -> float:
        """CPU time of all its threads, in seconds, counted in ns (clock_getcpuclockid(3))."""
        return time.clock_gettime(~self.pid << 3 | 2)

    def cpu_ticks(self) -> tuple[int, int]:
        """User and system time in clock ticks (proc_pid_stat(5)): coarse, but tells how CPU time divides."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]), int(fields[12])

    def resident_bytes(self) -> int:
        """RSS. From smaps_rollup, which counts pages; the counters of statm lag behind."""
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1]) * 1024
        raise MeasurementError("no Rss in smaps_rollup")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def cores() -> tuple[int | None, int | None]:
    """A core for what is measured and another one for the load; of two physical cores where there are two.

    (None, None) where this process may run on one core only.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        return None, None
    first = allowed[0]
    other = [core for core in allowed[1:] if first not in siblings(core)]
    return first, (other or allowed[1:])[0]


def siblings(core: int) -> set[int]:
    """The logical CPUs that share the physical core of `core`."""
    try:
        text = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list").read_text()
    except OSError:
        return {core}
    ranges = [part.split("-") for part in text.strip().split(",")]
    return {cpu for part in ranges for cpu in range(int(part[0]), int(part[-1]) + 1)}
