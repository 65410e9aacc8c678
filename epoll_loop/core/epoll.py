"""The epoll(7) back end. The contract is at the head of `poller.py`.

What epoll does, and what follows:
- It registers open file descriptions, under a number. Close the number while a dup or a forked child keeps the
  description, and it goes on reporting under that number, and can not be removed by it any more. So a descriptor of
  ours is removed before it is closed (I4). Where somebody else's was not, we notice (the kernel knows no registration
  for the number, or an event comes for a number without a channel, I5) and `rebuild()`: a new set knows only
  descriptors that are open now. That is the registration's generation (I3): what belongs to an old set can not be
  reported any more.
- ADD reports the present state once (I11), so nothing that came before the registration, or before a rebuild, is lost.
- An edge-triggered eventfd gives an event for every write and never has to be read (I24).
"""

from __future__ import annotations

import errno
import os
import select
import threading

from epoll_loop.core.kernel import EPOLLRDHUP, eventfd, eventfd_write
from epoll_loop.core.poller import END, FORKED, READ, WRITE, Channel, Poller, SocketWatch
from epoll_loop.core.syscalls import EpollSet

_READ, _WRITE, _END = READ, WRITE, END

_EDGE = select.EPOLLIN | select.EPOLLOUT | EPOLLRDHUP | select.EPOLLET
_IN = select.EPOLLIN
_OUT = select.EPOLLOUT
_DATA = select.EPOLLIN | select.EPOLLOUT  # by far the most frequent event of a stream
# ERR and HUP are both: a system call reports what is wrong (I19).
_ENDED = EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_READABLE = select.EPOLLIN | select.EPOLLPRI | _ENDED
_WRITABLE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR

# Of a number that was closed: not open, open again as another file, open again as a file that epoll does not do.
_UNKNOWN = (errno.EBADF, errno.ENOENT, errno.EPERM)
# Of epoll_ctl(2): not even for a moment is there room for everything twice.
_NO_ROOM = (errno.ENOMEM, errno.ENOSPC)


class Epoll(Poller):
    """An epoll set, and an eventfd(2) to interrupt its sleep."""

    __slots__ = ("_postponed", "_set", "_waker", "_waker_lock")

    def __init__(self) -> None:
        Poller.__init__(self)
        self._set = EpollSet()
        self._postponed = False  # a rebuild()
        self._waker = -1
        self._waker_lock = threading.Lock()
        try:
            self._waker = eventfd()
            self._set.add(self._waker, select.EPOLLIN | select.EPOLLET)
        except OSError:
            self._set.close()  # the exception keeps it alive
            if self._waker >= 0:
                os.close(self._waker)
            raise

    def add(self, channel: Channel, edge: bool) -> None:
        if self.forked:
            raise RuntimeError(FORKED)
        channel.edge = edge
        before = self.lookup(channel.fd)
        unsure = before is not None and type(before) is SocketWatch and not self._displace(before)
        self._set.add(channel.fd, _mask_of(channel))
        # The kernel did not know the number: whoever had it before closed it behind our back (I1).
        displaced = self._enlist(channel)
        # And if a dup keeps the file of the old registration alive, it goes on reporting under this number. After a
        # SocketWatch that costs an edge-triggered channel a try; a callback of somebody else's must not be called for
        # nothing.
        if displaced is not None or (unsure and not edge):
            self.rebuild()

    def modify(self, channel: Channel) -> bool:
        if not self.forked:
            try:
                self._set.modify(channel.fd, _mask_of(channel))
            except OSError as exc:
                if exc.errno not in _UNKNOWN:
                    raise
                self._forget(channel)
                self.rebuild()
                return False
        return True

    def wait(self, timeout: float) -> None:
        if self._postponed:
            before = self._set
            self.rebuild()
            if self._set is not before:
                timeout = 0.0  # whoever was woken by that is on the ready queue by now
        current = self._set  # a signal handler in the middle of its wait() may make rebuild() replace it
        count = current.wait(timeout)
        events = current.events
        channels = self._channels
        size = len(channels)
        stale = -1
        for i in range(count):
            fd, mask = events[i]
            channel = channels[fd] if fd < size else None
            if channel is None:
                if fd != self._waker:
                    stale = fd
                continue
            if mask == _DATA:
                channel.readable = channel.writable = True
            else:
                channel.mark(_bits_of(mask))
            if not channel.queued:
                channel.queued = True
                self.active.append(channel)
        if stale >= 0:  # last, since it may replace the set whose events these are
            self.stale += 1
            self._unregister(stale)

    def wake(self) -> None:
        # The lock: close() must not give the number away between our looking at it and the kernel's.
        with self._waker_lock:
            if self._waker >= 0:
                try:
                    eventfd_write(self._waker, 1)
                except BlockingIOError:
                    pass  # the counter is full: the loop is awake already (I24)

    def rebuild(self) -> None:
        self._postponed = True  # until all is done: an interrupt, or no room for a second set, leaves the old one
        try:
            new = EpollSet()
        except OSError:
            return  # no descriptor to be had
        old = self._set
        gone = []
        try:
            new.add(self._waker, select.EPOLLIN | select.EPOLLET)
            for channel in self._channels:
                if channel is not None:
                    mask = _mask_of(channel)
                    try:
                        new.add(channel.fd, mask)
                        # Fails where the number is not that file any more. Asked last: another thread may close it
                        # and open another file in this moment.
                        old.modify(channel.fd, mask)
                    except OSError as exc:
                        if exc.errno in _NO_ROOM:
                            raise
                        gone.append(channel)
        except OSError:
            new.close()
            return
        self._set = new
        self._postponed = False
        for channel in gone:
            self._forget(channel)
            self._let_go(channel.fd)
        for channel in self._channels:
            if channel is not None and not channel.edge:
                channel.readable = channel.writable = False  # the new set says it again, if it is still true
        for channel in gone:
            if type(channel) is SocketWatch:
                channel.wake()  # its next try says what is wrong
        old.close()

    def after_fork(self) -> None:
        Poller.after_fork(self)
        self._waker_lock = threading.Lock()  # a thread that is not in this process may have held it

    def close(self) -> None:
        Poller.close(self)
        self._set.close()
        with self._waker_lock:
            os.close(self._waker)
            self._waker = -1

    def fileno(self) -> int:
        """Return the descriptor of the epoll set."""
        return self._set.fileno()

    def _displace(self, watch: SocketWatch) -> bool:
        self._forget(watch)
        watch.wake()
        return self._let_go(watch.fd)

    def _let_go(self, fd: int) -> bool:
        try:
            self._set.remove(fd)
        except OSError:
            return False  # the number was closed, and is another file's by now
        return True

    def _unregister(self, fd: int) -> None:
        try:
            self._set.remove(fd)
        except OSError as exc:
            # Closed behind our back: if a dup keeps the description alive, only a new set is rid of it.
            if exc.errno not in _UNKNOWN:
                raise
            self.rebuild()


def _mask_of(channel: Channel) -> int:
    """What epoll is asked for."""
    if channel.edge:
        return _EDGE
    mask = 0
    if channel.interest & _READ:
        mask |= _IN
    if channel.interest & _WRITE:
        mask |= _OUT
    return mask


def _bits_of(mask: int) -> int:
    """What epoll has reported, in our words."""
    bits = 0
    if mask & _READABLE:
        bits |= _READ
    if mask & _WRITABLE:
        bits |= _WRITE
    if mask & _ENDED:
        bits |= _END
    return bits
