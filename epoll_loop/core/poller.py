"""Channels, and what a back end promises them.

A channel is one descriptor with the readiness that the kernel has reported for it. It is registered once and removed
once (I1, I7); in between the poller is never told anything, and readiness is remembered here:

    field      set by                        cleared by
    readable   input, its end, an error      EAGAIN; a short read of a stream whose end is not in sight (I14)
    writable   room, an error, a hang-up     EAGAIN; a short write (I17)
    ended      the end, an error, a hang-up  nothing: from then on reads go on until 0 or an error
    queued     wait() or carry_over()        turn(), just before on_ready()
    armed      add()                         remove(); what still arrives for a channel without it is dropped (I3)

Readiness is a hint, the system call is the truth: a bit too many costs one EAGAIN, a bit too few costs a hang.

A back end (`epoll.py`, `kqueue.py`, and `level.py` where there is neither) is a `Poller` with these verbs:

    add(channel, edge)      register channel.fd for reading, writing and half-close; edge-triggered, or level-triggered
                            for `channel.interest` alone. OSError (EPERM for a regular file, EEXIST for a number that
                            has a channel already) leaves nothing behind.
    keep(channel)           have a channel of a file that the kernel refuses to watch, as always ready: nobody waits for
                            it, and it goes on by carry_over() alone.
    modify(channel)         tell the kernel a level-triggered channel's new interest; False if it does not know the
                            channel any more (the descriptor was closed behind our back), which is removed then.
    remove(channel)         unregister, always before the descriptor is closed (I4). Never raises.
    adopt(new, old)         hand a registration on to another channel; no system call.
    wait(timeout)           sleep until something is ready, then mark the channels and append them to `active`; runs no
                            callback (I2).
    wake()                  make a wait() in another thread, or the next one, return. Any thread and any signal handler
                            may call it.
    rebuild()               start again with a new set, rid of what can not be removed any more. Not during a wait().
    recover()               forget what was marked, and have the kernel report everything again.
    after_fork()            we are a forked child: the set is the parent's, do nothing to it from now on.
    close()                 forget all channels; closes none of their descriptors.
"""

from __future__ import annotations

import errno
import os
import stat
from asyncio import Future
from typing import Any

from epoll_loop.core.handles import Handle
from epoll_loop.core.syscalls import Link, Queue

# What a channel is interested in, and what it is told; every kernel has its own words for it.
READ = 1
WRITE = 2
END = 4
_READ, _WRITE, _END = READ, WRITE, END

FORKED = "this event loop belongs to the parent process; a forked child needs a new one"


class Channel(Link):
    """A descriptor and its remembered readiness. The classes above say what is done with it."""

    __slots__ = ("__weakref__", "armed", "edge", "ended", "fd", "interest", "queue", "queued", "readable", "writable")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.queue: Queue[Link] | None = None  # of the poller; set while armed
        self.armed = False
        self.edge = True
        self.interest = _READ | _WRITE
        self.queued = False
        self.ended = False
        self.readable = False
        self.writable = False

    def mark(self, bits: int) -> None:
        """Remember what the kernel has reported: READ, WRITE and END."""
        # Each bit on its own, no elif: one event may carry all of them (I15).
        if bits & _READ:
            self.readable = True
        if bits & _WRITE:
            self.writable = True
        if bits & _END:
            self.ended = True

    def carry_over(self) -> None:
        """Go on in the next iteration, behind the others: the kernel will not tell again of the readiness left."""
        if not self.queued and self.queue is not None:
            self.queued = True
            self.queue.append(self)

    def turn(self) -> None:
        self.queued = False
        if self.armed:
            self.on_ready()

    def on_ready(self) -> None:
        """Use the readiness: called once an iteration while there is any, with bounded work (I16)."""

    def abandon(self) -> None:
        """End at once: the loop is being closed. What is called back for that still gets a turn."""


class Watch(Channel):
    """A descriptor whose owner is told by handles: `add_reader()`, `add_writer()`."""

    __slots__ = ("reader", "writer")

    def __init__(self, fd: int) -> None:
        Channel.__init__(self, fd)
        self.reader: Handle | None = None
        self.writer: Handle | None = None

    def on_ready(self) -> None:
        readable = self.readable
        writable = self.writable
        self.readable = False  # a level-triggered kernel tells again (I10)
        self.writable = False
        # In locals: a callback may remove itself, and the compiled call would not keep what it is called on alive.
        reader = self.reader
        if readable and reader is not None:
            reader._run()
        writer = self.writer
        if writable and writer is not None and self.armed:
            writer._run()

    def drop(self) -> None:
        """Cancel both handles."""
        for handle in (self.reader, self.writer):
            if handle is not None:
                handle.cancel()
        self.reader = self.writer = None

    def __repr__(self) -> str:
        return f"<Watch fd={self.fd} reader={self.reader!r} writer={self.writer!r}>"


class SocketWatch(Channel):
    """A socket that coroutines wait for: `sock_recv()` and the like, a connect in progress.

    They try first and wait when there was nothing (EAGAIN), so an edge is enough, and one registration serves them all.
    Nobody tells us when the socket is closed. So the watch knows its socket: it is of no use to another one with the
    same number, and gives way to any other channel. A waiter that is woken for nothing tries and waits again.
    """

    __slots__ = ("owner", "readers", "writers")

    def __init__(self, fd: int, owner: Any) -> None:
        Channel.__init__(self, fd)
        self.owner = owner  # a weak reference
        self.readers: list[Future[None]] | None = None
        self.writers: list[Future[None]] | None = None

    def wait(self, future: Future[None], writing: bool) -> None:
        """Complete the future, unless it is done, at the next event: what was remembered is over, the kernel says."""
        futures = self.writers if writing else self.readers
        if futures is None:
            futures = [future]
        else:
            futures = [other for other in futures if not other.done()]  # cancelled: no event came for them
            futures.append(future)
        if writing:
            self.writers = futures
            self.writable = False
        else:
            self.readers = futures
            self.readable = False

    def on_ready(self) -> None:
        if self.readable and self.readers is not None:
            futures, self.readers = self.readers, None
            _wake(futures)
        if self.writable and self.writers is not None:
            futures, self.writers = self.writers, None
            _wake(futures)

    def wake(self) -> None:
        """Wake everybody that waits."""
        for futures in (self.readers, self.writers):
            if futures is not None:
                _wake(futures)
        self.readers = self.writers = None

    def abandon(self) -> None:
        for futures in (self.readers, self.writers):
            for future in futures or ():
                future.cancel()
        self.readers = self.writers = None

    def __repr__(self) -> str:
        return f"<SocketWatch fd={self.fd} readers={self.readers!r} writers={self.writers!r}>"


def _wake(futures: list[Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


class Poller:
    """What the back ends share: the channels by number, and those with readiness to use."""

    __slots__ = ("_channels", "_kept", "active", "forked", "stale")

    def __init__(self) -> None:
        self.active: Queue[Link] = Queue()  # channels with readiness to use: of the last events, and carried over
        self._channels: list[Channel | None] = []  # by number, of every one that is registered
        self._kept: set[Channel] = set()  # those of files that the kernel refuses to watch
        self.forked = False  # we are a forked child: what the kernel knows is the parent's, leave it alone
        self.stale = 0  # events that came for nobody

    # What every back end has of its own.

    def add(self, channel: Channel, edge: bool) -> None:
        raise NotImplementedError

    def modify(self, channel: Channel) -> bool:
        raise NotImplementedError

    def wait(self, timeout: float) -> None:
        raise NotImplementedError

    def wake(self) -> None:
        raise NotImplementedError

    def rebuild(self) -> None:
        raise NotImplementedError

    def _unregister(self, fd: int) -> None:
        raise NotImplementedError

    # What they share.

    def keep(self, channel: Channel) -> None:
        channel.edge = False  # the kernel will not tell of a change
        channel.armed = True
        channel.queue = self.active
        self._kept.add(channel)

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

    def recover(self) -> None:
        self.active.clear()
        for channel in self.channels():
            channel.queued = False
        self.rebuild()
        # A turn for each: some go on with what no kernel knows of, as with bytes that are decrypted already.
        for channel in self.channels():
            channel.carry_over()

    def after_fork(self) -> None:
        self.forked = True

    def close(self) -> None:
        for channel in self.channels():
            channel.armed = False
        self._channels.clear()
        self._kept.clear()
        self.active.clear()

    def channels(self) -> list[Channel]:
        """Return all channels."""
        return [channel for channel in self._channels if channel is not None] + list(self._kept)

    def lookup(self, fd: int) -> Channel | None:
        """Return the channel that is registered for a descriptor, or None."""
        return self._channels[fd] if 0 <= fd < len(self._channels) else None

    def _enlist(self, channel: Channel) -> Channel | None:
        """Have a channel that was registered under its number, and return the one that had it until now."""
        fd = channel.fd
        if fd >= len(self._channels):
            self._channels.extend([None] * (fd + 1))
        displaced = self._channels[fd]
        if displaced is not None:
            displaced.armed = False
        channel.armed = True
        channel.queue = self.active
        self._channels[fd] = channel
        return displaced

    def _forget(self, channel: Channel) -> None:
        channel.armed = False
        self._channels[channel.fd] = None


def refuse_regular_file(fd: int) -> None:
    """PermissionError for what is always ready, as of epoll(7); OSError for what is not open."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
