"""The back end for platforms with neither epoll nor kqueue: select.poll() or select.select(). See `poller.py`.

Both keep nothing between two calls, and report whatever holds, again and again. An edge comes of what they are asked
for: what a channel remembers as ready is not asked for, until its read or write has said EAGAIN, and so what holds and
nobody uses does not keep the loop awake. A channel with nothing to ask for is left out altogether: poll(2) reports
errors and hang-ups of whatever is named to it.

There is no registration, so a number tells nothing of what it names: `_files` has which file it was.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable
from typing import Any

from epoll_loop.core import syscalls
from epoll_loop.core.poller import END, FORKED, READ, WRITE, Channel, Poller, SocketWatch, refuse_regular_file
from epoll_loop.core.waker import Waker

_READ, _WRITE, _ALL = READ, WRITE, READ | WRITE | END

_kernel: Any = select  # mypy looks at it as it is on Linux
# Windows counts sockets, and takes 512; elsewhere it is the numbers that are limited.
_BELOW = 1024 if os.name == "posix" else None

# (descriptor, bits) each: what is asked for, and what is found; 0 for a descriptor that is not open.
_Asked = list[tuple[int, int]]


class Level(Poller):
    """Channels to ask about, and a pair of sockets to interrupt the sleep."""

    __slots__ = ("_ask", "_below", "_fd", "_files", "_sockets_are_files", "_waker")

    def __init__(self, ask: Callable[[_Asked, float], _Asked], below: int | None = None) -> None:
        Poller.__init__(self)
        self._ask = ask
        self._below = below  # the numbers that `ask` takes
        self._files: dict[int, object] = {}
        self._waker = Waker()
        self._fd = self._waker.fd
        self._sockets_are_files = _file_of(self._fd) is not None  # not on Windows

    def add(self, channel: Channel, edge: bool) -> None:
        if self.forked:
            raise RuntimeError(FORKED)
        fd = channel.fd
        if self._sockets_are_files:
            refuse_regular_file(fd)
        if self._below is not None and fd >= self._below:
            raise OSError(errno.EMFILE, f"select(2) takes descriptors below {self._below}")
        channel.edge = edge
        before = self.lookup(fd)
        if before is not None:
            if type(before) is SocketWatch:
                self._displace(before)
            elif self._knows(fd):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        # Whoever had the number before closed it behind our back (I1).
        self._enlist(channel)
        self._files[fd] = _file_of(fd)

    def modify(self, channel: Channel) -> bool:
        if self._sockets_are_files and not self.forked and not self._knows(channel.fd):
            self._forget(channel)
            return False
        return True

    def wait(self, timeout: float) -> None:
        syscalls.check_signals()
        asked = [(self._fd, _READ)] if self._fd >= 0 else []
        for channel in self._channels:
            if channel is not None:
                bits = channel.interest
                if channel.edge:
                    if channel.readable:
                        bits &= ~_READ
                    if channel.writable:
                        bits &= ~_WRITE
                if bits:
                    asked.append((channel.fd, bits))
        for fd, bits in self._ask(asked, timeout):
            if fd == self._fd:
                self._waker.drain()
                continue
            channel = self._channels[fd]
            if channel is None:
                continue  # removed meanwhile, by a signal handler
            if not bits or (not channel.edge and self._sockets_are_files and not self._knows(fd)):
                # Closed behind our back, and perhaps somebody else's by now, whose news is not for this one (I3).
                self.stale += 1
                self._displace(channel)
                continue
            channel.mark(bits)
            if not channel.queued:
                channel.queued = True
                self.active.append(channel)

    def wake(self) -> None:
        self._waker.wake()

    def rebuild(self) -> None:
        # Nothing of ours is in the kernel, which tells again of what is not remembered.
        for channel in self._channels:
            if channel is not None and not channel.edge:
                channel.readable = channel.writable = False

    def after_fork(self) -> None:
        Poller.after_fork(self)
        self._waker.after_fork()

    def close(self) -> None:
        Poller.close(self)
        self._waker.close()

    def _displace(self, channel: Channel) -> None:
        self._forget(channel)
        if type(channel) is SocketWatch:
            watch = channel
            watch.wake()  # its next try says what is wrong

    def _knows(self, fd: int) -> bool:
        """Whether a number is the file that it was; where that can not be told, it is not."""
        file = _file_of(fd)
        return file is not None and file == self._files.get(fd)

    def _unregister(self, fd: int) -> None:
        self._files.pop(fd, None)


def new_poll() -> Level:
    """Return the back end on poll(2)."""
    return Level(_ask_poll)


def new_select() -> Level:
    """Return the back end on select(2)."""
    return Level(_ask_select, _BELOW)


def _ask_poll(asked: _Asked, timeout: float) -> _Asked:
    poll = _kernel.poll()
    for fd, bits in asked:
        poll.register(fd, (_kernel.POLLIN if bits & READ else 0) | (_kernel.POLLOUT if bits & WRITE else 0))
    found = []
    for fd, mask in poll.poll(timeout * 1000 if timeout >= 0 else None):  # rounded up (I23)
        bits = (READ if mask & _kernel.POLLIN else 0) | (WRITE if mask & _kernel.POLLOUT else 0)
        if mask & (_kernel.POLLERR | _kernel.POLLHUP):
            bits = _ALL  # a system call reports what is wrong (I19)
        found.append((fd, bits))  # POLLNVAL, of what is not open, comes alone
    return found


def _ask_select(asked: _Asked, timeout: float) -> _Asked:
    readers = [fd for fd, bits in asked if bits & READ]
    writers = [fd for fd, bits in asked if bits & WRITE]
    try:
        # Windows reports a connect that has failed as an exception.
        readable, writable, failed = select.select(readers, writers, writers, timeout if timeout >= 0 else None)
    except OSError as exc:
        closed = [(fd, 0) for fd, _ in asked if not _is_open(fd)]
        if not closed and exc.errno not in (errno.EBADF, errno.ENOTSOCK):  # the second is Windows'
            raise
        return closed  # none: another thread has opened the number again meanwhile
    found = dict.fromkeys(writable, WRITE)
    found.update(dict.fromkeys(failed, _ALL))
    for fd in readable:
        # Input and its end look the same: so reads go on until the kernel says that there is no more.
        found[fd] = found.get(fd, 0) | READ | END
    return [(fd, found[fd]) for fd, _ in asked if fd in found]


def _is_open(fd: int) -> bool:
    try:
        select.select((fd,), (), (), 0)
    except OSError:
        return False
    return True


def _file_of(fd: int) -> object:
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino
