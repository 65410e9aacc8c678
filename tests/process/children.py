"""What the tests of child processes share."""

import asyncio
import contextlib
import glob
import os
import subprocess
import threading
from pathlib import Path


def children():
    """The numbers of the child processes, zombies too."""
    found = set()
    for file in glob.glob("/proc/self/task/*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended
            found.update(Path(file).read_text().split())
    return found


class Recorder(asyncio.SubprocessProtocol):
    """Keeps what it is told."""

    def __init__(self):
        self.calls = []
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.calls.append("connection_made")
        self.transport = transport

    def pipe_data_received(self, fd, data):
        self.calls.append(("data", fd, data))

    def pipe_connection_lost(self, fd, exc):
        self.calls.append(("lost", fd, exc))

    def process_exited(self):
        self.calls.append("process_exited")

    def connection_lost(self, exc):
        self.calls.append("connection_lost")
        self.lost.set_result(exc)


async def start(command, protocol=Recorder, **pipes):
    """Run a shell command, without other pipes than are asked for."""
    pipes = {"stdin": None, "stdout": None, "stderr": None, **pipes}
    return await asyncio.get_running_loop().subprocess_shell(protocol, command, **pipes)


async def end(transport, protocol):
    transport.close()
    await protocol.lost


PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


async def until(condition):
    """Run the loop until something is true."""
    while not condition():
        await asyncio.sleep(0)


def refuse(code):
    def pidfd_open(pid, flags=0):
        raise OSError(code, os.strerror(code))

    return pidfd_open


def waiting_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("asyncio-waitpid-")]
