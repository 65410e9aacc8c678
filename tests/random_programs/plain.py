"""The far end without a transport: a socket or a pipe that the program reads and writes itself, or awaits."""

import asyncio
import os
import socket
import struct
from typing import Any

from random_programs.model import End

PART = 65536


class PlainEnd(End):
    """The operations have the names of those of a transport, and do what is nearest to that."""

    def __init__(self, program: Any, number: int, sock: socket.socket | None = None, fd: int = -1) -> None:
        super().__init__(program, number)
        self.sock = sock
        self.fd = fd  # of a pipe
        self.task: asyncio.Task[bytes] | None = None  # sock_recv(): until it is done nobody else reads
        if sock is not None:
            sock.setblocking(False)
        else:
            os.set_blocking(fd, False)

    # Reading

    def read(self, size: int) -> bool:
        """Read once; return whether there may be more."""
        if not self.reads or self.deaf() or self.task is not None:
            return False
        try:
            data = os.read(self.fd, size) if self.sock is None else self.sock.recv(size)
        except BlockingIOError:
            return False
        except ConnectionError as exc:
            self.failed(exc)
            return False
        return self.was_read(data)

    def was_read(self, data: bytes) -> bool:
        if data:
            self.received(data)
        else:
            self.at_end()
        return bool(data)

    def resume(self) -> None:
        """Read what there is."""
        while self.read(PART):
            pass

    def receive(self, size: int) -> None:
        """Await what comes next."""
        if self.reads and self.sock is not None and not self.deaf() and self.task is None:
            self.task = self.program.loop.create_task(self.program.loop.sock_recv(self.sock, size))
            self.task.add_done_callback(self.was_received)

    def was_received(self, task: asyncio.Task[bytes]) -> None:
        self.task = None
        if task.cancelled() or self.closed:
            return
        exc = task.exception()
        if exc is None:
            self.was_read(task.result())
        else:
            self.failed(exc)

    def cancel(self) -> None:
        """Nothing is lost by that; asyncio's sock_recv() loses what it has received and not returned yet."""
        if self.task is not None and self.program.exact:
            self.task.cancel()

    # Writing

    def write(self, size: int, kind: str = "bytes") -> None:
        """Send what the kernel takes of it."""
        if not self.writes or self.ended or self.broken:
            return
        before = self.sent
        part = self.stream[before : before + size]
        try:
            count = os.write(self.fd, part) if self.sock is None else self.sock.send(part)
        except BlockingIOError:
            return
        except ConnectionError:
            self.check(self.other.will_end(), "the other end does not read any more")
            self.broken = True
            return
        self.take(count, False)

    def writelines(self, sizes: list[int], kind: str) -> None:
        self.write(sum(sizes))

    def failed(self, exc: BaseException) -> None:
        self.check(isinstance(exc, OSError) and self.may_fail(), f"{exc!r}")
        self.broken = True

    # The end

    def write_eof(self) -> None:
        if self.ended or self.broken or not self.writes:
            return
        if self.sock is None:
            self.close()
            return
        self.ended = True
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as exc:
            self.failed(exc)

    def close(self) -> None:
        if self.closed or self.task is not None:
            return
        self.ended = self.closed = self.lost = True
        if self.sock is None:
            os.close(self.fd)
        else:
            self.sock.close()

    def abort(self) -> None:
        """Reset the connection."""
        if self.closed or self.task is not None:
            return
        self.broken = True
        if self.sock is not None and self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def cancel_all(self) -> None:
        if self.task is not None:
            self.task.cancel()

    def let_go(self) -> None:
        self.cancel_all()
        self.task = None
        self.close()

    # What a transport has and this has not

    def nothing(self, *args: Any) -> None:
        pass

    pause = set_protocol = limits = drain = boom = nothing
    look = look_after_run = look_when_quiet = look_at_end = nothing
