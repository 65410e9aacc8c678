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
from epoll_loop.core.poller import Channel, SocketWatch
from epoll_loop.core.syscalls import EpollSet, Link, Queue

_EDGE = select.EPOLLIN | select.EPOLLOUT | EPOLLRDHUP | select.EPOLLET

# Of a number that was closed: not open, open again as another file, open again as a file that epoll does not do.
_UNKNOWN = (errno.EBADF, errno.ENOENT, errno.EPERM)

FORKED = "this event loop belongs to the parent process; a forked child needs a new one"
_DATA = select.EPOLLIN | select.EPOLLOUT  # by far the most frequent event of a stream

READ = select.EPOLLIN
WRITE = select.EPOLLOUT


class Epoll:
    """An epoll set, the channels in it by number, and an eventfd(2) to interrupt its sleep."""

    __slots__ = ("_channels", "_kept", "_set", "_waker", "_waker_lock", "active", "forked", "stale")

    def __init__(self) -> None:
        self._set = EpollSet()
        self.active: Queue[Link] = Queue()  # channels with readiness to use: of the last events, and carried over
        self._waker = eventfd()
        self._waker_lock = threading.Lock()
        self._channels: list[Channel | None] = [None] * (self._waker + 1)  # by number, of every one in the set
        self._kept: set[Channel] = set()  # those of files that epoll does not do
        self._set.add(self._waker, select.EPOLLIN | select.EPOLLET)
        self.forked = False  # we are a forked child: the set is the parent's, leave it alone
        self.stale = 0  # events that came for nobody

    def add(self, channel: Channel, edge: bool) -> None:
        if self.forked:
            raise RuntimeError(FORKED)
        fd = channel.fd
        channel.edge = edge
        before = self.lookup(fd)
        unsure = before is not None and type(before) is SocketWatch and not self._displace(before)
        self._set.add(fd, _EDGE if edge else channel.interest)
        if fd >= len(self._channels):
            self._channels.extend([None] * (fd + 1))
        # The kernel did not know the number: whoever had it before closed it behind our back (I1).
        displaced = self._channels[fd]
        channel.armed = True
        channel.queue = self.active
        self._channels[fd] = channel
        if displaced is not None:
            displaced.armed = False
            self.rebuild()
        elif unsure and not edge:
            # If a dup keeps the file of the old registration alive, it goes on reporting under this number. That costs
            # an edge-triggered channel a try; a callback of somebody else's must not be called for nothing.
            self.rebuild()

    def keep(self, channel: Channel) -> None:
        channel.edge = False  # the kernel will not tell of a change
        channel.armed = True
        channel.queue = self.active
        self._kept.add(channel)

    def modify(self, channel: Channel) -> bool:
        if not self.forked:
            try:
                self._set.modify(channel.fd, channel.interest)
            except OSError as exc:
                if exc.errno not in _UNKNOWN:
                    raise
                self._forget(channel)
                self.rebuild()
                return False
        return True

    def remove(self, channel: Channel) -> None:
        if channel in self._kept:
            self._kept.remove(channel)
            channel.armed = False
        elif channel.armed:
            self._forget(channel)
            if not self.forked:
                self._unregister(channel.fd)

    def adopt(self, new: Channel, old: Channel) -> None:
        new.edge = old.edge
        new.interest = old.interest
        new.readable = old.readable
        new.writable = old.writable
        new.ended = old.ended
        new.armed = True
        new.queue = old.queue
        old.armed = False
        self._channels[new.fd] = new

    def wait(self, timeout: float) -> None:
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
                channel.mark(mask)
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
        try:
            new = EpollSet()
        except OSError:
            return  # no descriptor to be had: what made us come here will come again
        old = self._set
        self._set = new
        self._set.add(self._waker, select.EPOLLIN | select.EPOLLET)
        for channel in self._channels:
            if channel is not None:
                mask = _EDGE if channel.edge else channel.interest
                if not channel.edge:
                    channel.readable = channel.writable = False  # the new set says it again, if it is still true
                try:
                    old.modify(channel.fd, mask)  # fails where the number is not that file any more
                    self._set.add(channel.fd, mask)
                except OSError:
                    self._forget(channel)
                    if type(channel) is SocketWatch:
                        channel.wake()  # its next try says what is wrong
        old.close()

    def recover(self) -> None:
        self.active.clear()
        for channel in self._channels:
            if channel is not None:
                channel.queued = False
        for channel in self._kept:
            channel.queued = False
            channel.carry_over()
        self.rebuild()

    def after_fork(self) -> None:
        self.forked = True
        self._waker_lock = threading.Lock()  # a thread that is not in this process may have held it

    def close(self) -> None:
        for channel in self.channels():
            channel.armed = False
        self._channels.clear()
        self._kept.clear()
        self.active.clear()
        self._set.close()
        with self._waker_lock:
            os.close(self._waker)
            self._waker = -1

    def channels(self) -> list[Channel]:
        """Return all channels."""
        return [channel for channel in self._channels if channel is not None] + list(self._kept)

    def lookup(self, fd: int) -> Channel | None:
        """Return the channel that is registered for a descriptor, or None."""
        return self._channels[fd] if 0 <= fd < len(self._channels) else None

    def fileno(self) -> int:
        """Return the descriptor of the epoll set."""
        return self._set.fileno()

    def _forget(self, channel: Channel) -> None:
        channel.armed = False
        self._channels[channel.fd] = None

    def _displace(self, watch: SocketWatch) -> bool:
        self._forget(watch)
        watch.wake()
        try:
            self._set.remove(watch.fd)
        except OSError:
            return False  # its socket was closed: the number is another file's by now
        return True

    def _unregister(self, fd: int) -> None:
        try:
            self._set.remove(fd)
        except OSError as exc:
            # Closed behind our back: if a dup keeps the description alive, only a new set is rid of it.
            if exc.errno not in _UNKNOWN:
                raise
            self.rebuild()
