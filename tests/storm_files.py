"""Open files that a loop watches in various ways, each with what only its own peer can make happen.

Every one knows whether there is something to tell of it (`ready`): what comes without that is another's event. A call
after its number was closed is late, and at most one is: of the batch that the loop had in hand. As long as a duplicate
keeps the file open it may go on being told of, as of epoll(7).

The lock makes "open, and under this number" true for as long as one looks: other threads close what they like.
"""

import asyncio
import contextlib
import fcntl
import itertools
import os
import random
import socket
import threading
from collections.abc import Callable
from typing import Any

TOKEN = 8
MORE = 4096  # more than is ever on the way
SMALLEST = 4096  # a send buffer, a pipe
ASIDE = 300

_numbers = itertools.count(1)


def aside(fd: int) -> int:
    """Move a descriptor to a higher number: the low ones, given out first, are for the loop's files."""
    moved: int = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, ASIDE)
    os.close(fd)
    return moved


def pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, SMALLEST)
    return reader, writer


def pipe_to_write() -> tuple[int, int]:
    return pipe()[::-1]


def unix() -> tuple[int, int]:
    one, other = socket.socketpair()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALLEST)
    return one.detach(), other.detach()


def tcp() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one = socket.create_connection(listening.getsockname())
        other, _ = listening.accept()
    return one.detach(), other.detach()


def fill(fd: int) -> None:
    """Write until there is no room, or nobody to read."""
    with contextlib.suppress(BlockingIOError, ConnectionError):
        while True:
            os.write(fd, bytes(SMALLEST))


class File:
    """One file: our number of it, and the peer's."""

    KINDS: tuple[Callable[[], tuple[int, int]], ...] = (pipe, unix, tcp)
    LATE = 1  # calls of one batch

    def __init__(self, storm: Any, kind: Any, silent: bool) -> None:
        self.loop = storm.loop
        self.wrong = storm.wrong
        self.owners: dict[int, File] = storm.owners  # by number
        self.kind = kind
        self.silent = silent
        self.lock = threading.RLock()
        self.token = next(_numbers).to_bytes(TOKEN, "big")
        self.copies: list[int] = []
        self.due = 0  # bytes that the peer has sent, and the loop has not told of
        self.hung_up = False
        self.registered = False
        self.watched = -1  # the number that it was registered under
        self.followed = False  # another file is watched under that number
        self.late = 0
        self.after: Callable[[], None] = storm.step_of_loop  # in the middle of a batch of events
        self.number, self.peer = self.make()
        self.name = f"{type(self).__name__} {self.token.hex()} of a {kind.__name__}, number {self.number}"
        os.set_blocking(self.number, False)
        if self.peer >= 0:
            self.peer = aside(self.peer)
            os.set_blocking(self.peer, False)

    def make(self) -> tuple[int, int]:
        made: tuple[int, int] = self.kind()
        return made

    @property
    def is_open(self) -> bool:
        return self.number >= 0

    @property
    def ready(self) -> bool:
        """Whether there is something to tell."""
        return self.due > 0 or self.hung_up

    @property
    def is_silent(self) -> bool:
        """Whether nothing is to happen to it, as long as it is open under its number."""
        return self.silent and self.is_open

    @property
    def exists(self) -> bool:
        return self.is_open or bool(self.copies)

    # What its owner does, on the loop

    def register(self) -> None:
        with self.lock:
            if self.is_open and not self.registered:
                self.registered = True
                self.watched = self.number
                self.watch()

    def watch(self) -> None:
        """Have the loop tell of it."""
        raise NotImplementedError

    def unregister(self) -> None:
        raise NotImplementedError

    def take_number(self) -> None:
        """From now on it is watched under its number, and who was before is not."""
        before = self.owners.get(self.number)
        if before is not None:
            before.followed = True
        self.followed = False
        self.owners[self.number] = self

    def close(self) -> None:
        """Unregister, and close: as one should."""
        with self.lock:
            if self.is_open:
                if self.registered:
                    self.unregister()
                self.registered = False
                self.leave()

    # What anybody does, in any thread

    def poke(self) -> None:
        """Have the peer do what the loop has to tell of, also where nobody has the file open under its number."""
        with self.lock:
            if self.peer >= 0 and self.exists:
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    self.due += os.write(self.peer, self.token)

    def hang_up(self) -> None:
        with self.lock:
            if self.peer >= 0:
                self.hung_up = self.exists
                os.close(self.peer)
                self.peer = -1

    def duplicate(self) -> None:
        """Keep the file open, whatever becomes of its number."""
        with self.lock:
            if self.is_open:
                self.copies.append(fcntl.fcntl(self.number, fcntl.F_DUPFD_CLOEXEC, ASIDE))

    def leave(self) -> None:
        """Close the number; the loop is not told."""
        with self.lock:
            if self.is_open:
                os.close(self.number)
                self.number = -1

    def give_number_to(self, new: "File") -> None:
        """Have another file under this number at once, which is dup2(2)."""
        with self.lock:
            if self.is_open:
                os.dup2(new.number, self.number, inheritable=False)
                os.close(new.number)
                new.number, self.number = self.number, -1

    def bury(self) -> None:
        """Close what keeps the file open besides its number, and the peer of a closed one."""
        with self.lock:
            while self.copies:
                os.close(self.copies.pop())
            if not self.is_open and self.peer >= 0:
                os.close(self.peer)
                self.peer = -1

    # What is told

    def told(self) -> bool:
        """Whether what is told can be looked at; complain of what must not be told."""
        if not self.ready:
            self.wrong(f"{self.name} was told of, and nothing has happened to it")
        if self.followed:
            self.wrong(f"{self.name} was told of, and another one was watched under its number")
        if self.is_open:
            return True
        self.late += not self.copies
        if self.late > self.LATE:
            self.wrong(f"{self.name} is told of again and again, and was closed")
        return False

    def check(self, data: bytes) -> None:
        self.due -= len(data)
        if data != self.token * (len(data) // TOKEN) or self.due < 0:
            self.wrong(f"{self.name} was told {data.hex()}")


class Reader(File):
    """`add_reader()`."""

    def watch(self) -> None:
        self.loop.add_reader(self.number, self.readable)
        self.take_number()

    def unregister(self) -> None:
        self.loop.remove_reader(self.watched)

    def readable(self) -> None:
        with self.lock:
            if self.told():
                try:
                    data = os.read(self.number, MORE)
                except BlockingIOError:
                    self.wrong(f"{self.name} was told of, and there is nothing to read")
                    return
                except ConnectionResetError:
                    data = b""
                self.check(data)
                if not data:
                    self.close()
            elif self.copies and self.silent:
                self.unregister()  # too late, and right all the same: the number is nobody else's in the loop yet
        self.after()


class Writer(File):
    """`add_writer()`, and no room until the peer reads."""

    KINDS = (unix, pipe_to_write)  # TCP finds room by itself

    def watch(self) -> None:
        fill(self.number)
        self.due = 0
        self.loop.add_writer(self.number, self.writable)
        self.take_number()

    def unregister(self) -> None:
        self.loop.remove_writer(self.watched)

    def poke(self) -> None:
        with self.lock:
            if self.peer >= 0 and self.exists:
                self.due = 1
                with contextlib.suppress(BlockingIOError, ConnectionResetError):
                    while os.read(self.peer, 1 << 20):
                        pass

    def writable(self) -> None:
        with self.lock:
            if self.told():
                self.unregister()
                try:
                    os.write(self.number, b"x")
                except BlockingIOError:
                    self.wrong(f"{self.name} was told of, and there is no room")
                except ConnectionError:
                    self.registered = False
                    self.close()
                else:
                    self.watch()
        self.after()


class ReaderAndWriter(Reader):
    """Both, and never any room: the writer is told of the end, at most."""

    KINDS = (unix,)
    LATE = 2

    def watch(self) -> None:
        fill(self.number)
        self.loop.add_writer(self.number, self.writable)
        super().watch()

    def unregister(self) -> None:
        super().unregister()
        self.loop.remove_writer(self.watched)

    def writable(self) -> None:
        with self.lock:
            if self.peer >= 0:
                self.wrong(f"the writer of {self.name} was told of, and there is no room")
            elif self.told():
                self.close()


class WithTask(File):
    """A socket that a coroutine waits for. What closes it closes its object, as a program does."""

    KINDS = (unix, tcp)

    def watch(self) -> None:
        self.sock = socket.socket(fileno=self.number)
        self.sock.setblocking(False)
        self.task = self.loop.create_task(self.serve())

    def unregister(self) -> None:
        self.task.cancel()

    def leave(self) -> None:
        with self.lock:
            if not self.registered:
                super().leave()
            elif not self.ready:  # else the coroutine may be in the middle of a system call with its number
                self.number = -1
                self.sock.close()

    def close(self) -> None:
        with self.lock:
            if self.registered:
                self.registered = False
                self.unregister()
                self.number = -1
                self.sock.close()
            super().close()

    def give_number_to(self, new: File) -> None:
        self.leave()

    async def serve(self) -> None:
        try:
            while await self.step():
                self.after()
        except (OSError, ValueError) as exc:
            if self.is_open:
                self.wrong(f"{self.name} failed with {exc!r}")

    async def step(self) -> bool:
        raise NotImplementedError


class Receiver(WithTask):
    """`sock_recv()`."""

    async def step(self) -> bool:
        data = await self.loop.sock_recv(self.sock, MORE)
        with self.lock:
            if self.told():
                self.check(data)
            if not data:
                self.close()
            return bool(data)


class Acceptor(WithTask):
    """`sock_accept()`: whoever connects says which listener he means."""

    KINDS = (tcp,)

    def make(self) -> tuple[int, int]:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.address = listening.getsockname()
            return listening.detach(), -1

    def poke(self) -> None:
        with self.lock:
            if self.is_open and not self.ready:
                with socket.create_connection(self.address) as sock:
                    sock.sendall(self.token)
                    self.due = TOKEN

    async def step(self) -> bool:
        connection, _ = await self.loop.sock_accept(self.sock)
        with connection:
            data = await self.loop.sock_recv(connection, MORE)
        with self.lock:
            if self.told():
                self.check(data)
        return True


class Connection(File, asyncio.Protocol):
    """A transport. It is the transport that closes the number."""

    KINDS = (unix, tcp)

    transport: Any = None

    def watch(self) -> None:
        self.sock = socket.socket(fileno=self.number)
        self.task = self.loop.create_task(self.connect())

    async def connect(self) -> None:
        try:
            await self.loop.create_connection(lambda: self, sock=self.sock)
        except Exception as exc:
            self.wrong(f"{self.name} failed with {exc!r}")

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.take_number()

    def data_received(self, data: bytes) -> None:
        with self.lock:
            if self.told():
                self.check(data)
        self.after()

    def connection_lost(self, exc: Exception | None) -> None:
        with self.lock:
            self.number = -1

    def unregister(self) -> None:
        random.choice((self.transport.abort, self.transport.close))()

    def close(self) -> None:
        if self.transport is not None:
            self.unregister()
        elif not self.registered:
            super().leave()

    def leave(self) -> None:
        """Not ours to close."""

    def give_number_to(self, new: File) -> None:
        """Nor to give away."""
