"""The kqueue(2) back end. The contract is at the head of `poller.py`.

What kqueue does, and what follows:
- It registers numbers of this process, for reading and for writing apart: two filters, two events. Close the number,
  and both are gone, whatever duplicates the file has. So nothing is ever reported for a number that somebody has closed
  behind our back, and no other file's events either: the registration itself is the generation (I3).
- EV_CLEAR is the edge. EV_ADD reports the present state once (I11).
- EV_ADD of what is there is no error, but changes it. EV_ENABLE tells whether it is there, and changes nothing; where
  neither filter is, the number was closed (I1).
- EV_EOF comes with bytes still to read: reads go on until 0, as after epoll's RDHUP (I14). It does not say which of the
  two directions can still be used: a system call does (I19, I28).
- What a change came to is told by EV_RECEIPT, for both filters in one call. Without it a call would go on to report
  events, and lose them (I27).
- A forked child does not inherit it. The number may be another file's there, which nobody must close.
"""

from __future__ import annotations

import errno
import os
import select
from typing import Any

from epoll_loop.core import syscalls
from epoll_loop.core.poller import END, FORKED, READ, WRITE, Channel, Poller, SocketWatch, refuse_regular_file
from epoll_loop.core.waker import Waker

_READ, _WRITE, _ALL = READ, WRITE, READ | WRITE | END

_kernel: Any = select  # mypy looks at it as it is on Linux
_kqueue = _kernel.kqueue
_kevent = _kernel.kevent
_FILTER_READ: int = _kernel.KQ_FILTER_READ
_ADD: int = _kernel.KQ_EV_ADD
_EDGE: int = _kernel.KQ_EV_ADD | _kernel.KQ_EV_CLEAR
_DELETE: int = _kernel.KQ_EV_DELETE
_ENABLE: int = _kernel.KQ_EV_ENABLE
_EOF: int = _kernel.KQ_EV_EOF
_RECEIPT = 0x40  # EV_RECEIPT, for which Python has no name; the same on every system
_MAX_EVENTS = 1024

_READING = (_FILTER_READ,)
_WRITING = (_kernel.KQ_FILTER_WRITE,)
_BOTH = _READING + _WRITING
_BY_INTEREST = {READ: _READING, WRITE: _WRITING, READ | WRITE: _BOTH}

# What kernels say of a file that has no such filter: a pipe without its other end, devices that are never waited for.
_ONE_SIDED = (errno.EPIPE, errno.EINVAL, errno.ENODEV, errno.ENOTSUP, errno.EOPNOTSUPP)

# The kqueues of a parent process: their numbers are not ours to close, which freeing them would do before Python 3.13.
_inherited: list[Any] = []


class Kqueue(Poller):
    """A kqueue, and a pair of sockets to interrupt its sleep."""

    __slots__ = ("_fd", "_postponed", "_set", "_waker")

    def __init__(self) -> None:
        Poller.__init__(self)
        self._set = _kqueue()
        self._postponed = False  # a rebuild()
        try:
            self._waker = Waker()
        except OSError:
            self._set.close()  # the exception keeps it alive
            raise
        self._fd = self._waker.fd
        _change(self._set, self._fd, _EDGE, _READING)

    def add(self, channel: Channel, edge: bool) -> None:
        if self.forked:
            raise RuntimeError(FORKED)
        fd = channel.fd
        channel.edge = edge
        if not edge:
            refuse_regular_file(fd)
        before = self.lookup(fd)
        if before is not None:
            if type(before) is SocketWatch:
                self._displace(before)
            elif self._knows(fd):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        _register(self._set, channel, _filters_of(channel))
        # Whoever had the number before closed it behind our back (I1).
        self._enlist(channel)

    def modify(self, channel: Channel) -> bool:
        if self.forked:
            return True
        fd = channel.fd
        wanted = _filters_of(channel)
        there = _known(self._set, fd)
        missing = tuple([each for each in wanted if each not in there])
        # What the file has not got is left out, as in _register(); EBADF shows below.
        codes = _change(self._set, fd, _ADD, missing) if there and missing else []
        # Asked again: another thread may have closed the number, and opened another file, before that.
        left = _known(self._set, fd)
        if not there or not set(left).issuperset(there):
            self._unregister(fd)
            self._forget(channel)
            return False
        unwanted = tuple([each for each in there if each not in wanted])
        if unwanted and errno.EPIPE not in codes:  # else to read stands for to write: see _register()
            _change(self._set, fd, _DELETE, unwanted)
        return True

    def wait(self, timeout: float) -> None:
        syscalls.check_signals()
        if self._postponed:
            before = self._set
            self.rebuild()
            if self._set is not before:
                timeout = 0.0  # whoever was woken by that is on the ready queue by now
        events = self._set.control(None, _MAX_EVENTS, timeout if timeout >= 0 else None)
        channels = self._channels
        size = len(channels)
        for event in events:
            fd = event.ident
            channel = channels[fd] if fd < size else None
            if channel is None:
                if fd == self._fd:
                    self._waker.drain()
                else:
                    self.stale += 1
                    self._unregister(fd)
                continue
            if event.flags & _EOF:
                channel.mark(_ALL)
            else:
                channel.mark(_READ if event.filter == _FILTER_READ else _WRITE)
            if not channel.queued:
                channel.queued = True
                self.active.append(channel)

    def wake(self) -> None:
        self._waker.wake()

    def rebuild(self) -> None:
        self._postponed = True  # until all is done: an interrupt leaves the old one
        try:
            new = _kqueue()
        except OSError:
            return  # no descriptor to be had
        old = self._set
        gone = []
        _change(new, self._fd, _EDGE, _READING)
        for channel in self._channels:
            if channel is not None:
                try:
                    _register(new, channel, _filters_of(channel))
                    # Asked last: another thread may close the number and open another file in this moment.
                    known = bool(_known(old, channel.fd))
                except OSError:
                    known = False
                if not known:
                    gone.append(channel)
        self._set = new
        self._postponed = False
        for channel in gone:
            self._unregister(channel.fd)
            self._forget(channel)
        for channel in self._channels:
            if channel is not None and not channel.edge:
                channel.readable = channel.writable = False  # the new set says it again, if it is still true
        for channel in gone:
            if type(channel) is SocketWatch:
                channel.wake()  # its next try says what is wrong
        old.close()

    def after_fork(self) -> None:
        Poller.after_fork(self)
        self._waker.after_fork()
        _inherited.append(self._set)

    def close(self) -> None:
        Poller.close(self)
        if not self.forked:
            self._set.close()
        self._waker.close()

    def fileno(self) -> int:
        """Return the descriptor of the kqueue."""
        return self._set.fileno()  # type: ignore[no-any-return]

    def _displace(self, watch: SocketWatch) -> None:
        self._forget(watch)
        watch.wake()
        self._unregister(watch.fd)

    def _knows(self, fd: int) -> bool:
        return bool(_known(self._set, fd))

    def _unregister(self, fd: int) -> None:
        # ENOENT: closed behind our back, or not both were there. EBADF: closed and not open again.
        _change(self._set, fd, _DELETE, _BOTH)


def _change(queue: Any, fd: int, flags: int, filters: tuple[int, ...]) -> list[int]:
    """Make a change for one filter or both; return an errno for each, or 0."""
    changes = [_kevent(fd, filter_, flags | _RECEIPT) for filter_ in filters]
    return [receipt.data for receipt in queue.control(changes, len(changes), 0)]


def _register(queue: Any, channel: Channel, filters: tuple[int, ...]) -> None:
    flags = _EDGE if channel.edge else _ADD
    codes = _change(queue, channel.fd, flags, filters)
    if codes == [errno.EPIPE]:
        # A pipe that nobody reads any more: to write can not be waited for, to read can, and says EOF.
        codes = _change(queue, channel.fd, flags, _READING)
    wrong = [code for code in codes if code and code not in _ONE_SIDED]
    if wrong or 0 not in codes:
        _change(queue, channel.fd, _DELETE, _BOTH)
        code = wrong[0] if wrong else errno.EPERM  # as epoll says it
        raise OSError(code, os.strerror(code))


def _filters_of(channel: Channel) -> tuple[int, ...]:
    return _BOTH if channel.edge else _BY_INTEREST[channel.interest]


def _known(queue: Any, fd: int) -> list[int]:
    """The filters that a queue has for a number."""
    codes = _change(queue, fd, _ENABLE, _BOTH)
    return [_BOTH[i] for i in range(2) if codes[i] == 0]
