"""A server started as a command: on a free port, in a folder of its own, ended by SIGTERM as a service manager does."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 30.0  # seconds, for the start as for the end


class Command:
    """A server that runs: `port` is where it listens on 127.0.0.1."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.port = port
        self._process = process
        self._asked = False

    def terminate(self) -> None:
        """Send SIGTERM, and return when nobody is let in any more. TimeoutError if that does not come."""
        self._process.terminate()
        self._asked = True
        self._until(accepts=False)

    def wait(self, code: int) -> None:
        """Wait for the end, after SIGTERM if that has not been sent. RuntimeError if the exit code is not this one."""
        if not self._asked:
            self._process.terminate()
        ended = self._process.wait(PATIENCE)
        if ended != code:
            raise RuntimeError(f"exit code {ended}, not {code}")

    def wait_until_it_listens(self) -> None:
        """RuntimeError if it ends instead, TimeoutError if neither comes."""
        self._until(accepts=True)
        if self._process.poll() is not None:
            raise RuntimeError(f"exit code {self._process.returncode} before it listened")

    def _until(self, *, accepts: bool) -> None:
        deadline = time.monotonic() + PATIENCE
        while self._process.poll() is None and _accepts(self.port) is not accepts:
            if time.monotonic() > deadline:
                raise TimeoutError(f"port {self.port}: it {'does not accept' if accepts else 'still accepts'}")
            time.sleep(0.02)


@contextmanager
def serving(
    line: str, files: Mapping[str, str] | None = None, *, code: int = 0, output: str = "", least: str | None = None
) -> Iterator[Command]:
    """Run a command line, with `{port}` in it the port to listen on, and yield it as it listens.

    `files` (name to text) are in the folder it runs in. On leaving, it ends by SIGTERM with this exit code (negative:
    by a signal), having said nothing but `output` on stdout and stderr, or `least`: if not, that is RuntimeError, and
    what it said goes to stderr. No process of it and no file outlives the block.
    """
    name, _, _ = line.partition(" ")
    if shutil.which(name) is None:
        raise ModuleNotFoundError(f"No module named {name!r}")  # as when a program imports what is not installed
    with tempfile.TemporaryDirectory() as folder:
        for file_name, text in (files or {}).items():
            Path(folder, file_name).write_text(text)
        port = free_port()
        said = Path(folder, "output.txt")  # a file: nobody has to read along
        with said.open("wb") as file:
            process = subprocess.Popen(
                shlex.split(line.format(port=port)),
                cwd=folder,
                env=os.environ | {"XDG_RUNTIME_DIR": folder},  # gunicorn's control socket
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            server = Command(process, port)
            server.wait_until_it_listens()
            yield server
            server.wait(code)
            if said.read_text() not in (output, output if least is None else least):
                raise RuntimeError(f"it was to say {output!r}")
        except BaseException:
            print(f"--- {line}\n{said.read_text()}---", file=sys.stderr)
            raise
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)  # workers, too
            except ProcessLookupError:
                pass
            process.wait()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses as this returns."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _accepts(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
