"""`select.kqueue` and `select.kevent` for systems that have none, over real descriptors: a double for tests.

It does what kqueue(2) of the BSDs and macOS says, as Python's `select` documents it, and knows nothing of who uses it:

- A knote is a (number, filter) of this process: reading and writing are apart. ADD of one that is there changes it, and
  reports its present state again. DELETE, ENABLE and DISABLE of one that is not there: ENOENT. Of a number that is not
  open: EBADF.
- close(2) of the number removes its knotes, whatever duplicates there are.
- Without EV_CLEAR what holds is reported as long as it holds. With it, once each time that something happens.
- EV_EOF comes as soon as the other end is closed, with `data` bytes still to read.
- EVFILT_WRITE on a pipe that has lost its other end can not be added: EPIPE.
- A change that fails takes a place in the list of events, as EV_ERROR with the errno in `data`; so does every one with
  EV_RECEIPT, with 0 where it is well. Such a call reports nothing else. Where there is no place, OSError.
- A forked child does not inherit the queue: its number is not open there, or another file's. The object does not know,
  and closes the number when it is closed or freed, as that of Python does up to 3.12.

What happens is told by Linux, by two edge-triggered epoll sets (reading and writing apart), and what holds by poll(2).
"""

import contextlib
import errno
import fcntl
import math
import os
import select
import stat
import struct
import termios
import time
import weakref

# What it stands on. Bound here: a test may take these away, to have a system that has only what is doubled.
_epoll, _poll = select.epoll, select.poll
_now = time.monotonic  # nobody stops the kernel's clock
_ET = select.EPOLLET
_IN = select.POLLIN
_RDHUP = 0x2000  # of both; PyPy has no name for it

KQ_FILTER_READ, KQ_FILTER_WRITE, KQ_FILTER_USER = -1, -2, -11
KQ_EV_ADD, KQ_EV_DELETE, KQ_EV_ENABLE, KQ_EV_DISABLE = 0x1, 0x2, 0x4, 0x8
KQ_EV_ONESHOT, KQ_EV_CLEAR, KQ_EV_RECEIPT, KQ_EV_ERROR, KQ_EV_EOF = 0x10, 0x20, 0x40, 0x4000, 0x8000
KQ_NOTE_TRIGGER = 0x01000000

# Python has no names for these three.
_NAMELESS = {"KQ_FILTER_USER", "KQ_EV_RECEIPT", "KQ_NOTE_TRIGGER"}

_GONE = select.POLLHUP | select.POLLERR
_HOLDS = {
    KQ_FILTER_READ: select.POLLIN | _RDHUP | _GONE,
    KQ_FILTER_WRITE: select.POLLOUT | _GONE,
}
_EOF = {KQ_FILTER_READ: _RDHUP | _GONE, KQ_FILTER_WRITE: _GONE}
_ASKED = {KQ_FILTER_READ: select.EPOLLIN | _RDHUP, KQ_FILTER_WRITE: select.EPOLLOUT}


def install():
    """Give the `select` module what it has on the BSDs, and nothing that it has not."""
    vars(select).update(_names())


@contextlib.contextmanager
def installed():
    """Have it there for the time of an import."""
    install()
    try:
        yield
    finally:
        for name in _names():
            delattr(select, name)


def _names():
    constants = {name: value for name, value in globals().items() if name.startswith("KQ_") and name not in _NAMELESS}
    return {"kqueue": kqueue, "kevent": kevent, **constants}


class kevent:
    """What is asked of a kqueue, and what it reports."""

    __slots__ = ("data", "fflags", "filter", "flags", "ident", "udata")

    def __init__(self, ident, filter=KQ_FILTER_READ, flags=KQ_EV_ADD, fflags=0, data=0, udata=0):  # noqa: A002
        self.ident = ident if isinstance(ident, int) else ident.fileno()
        self.filter, self.flags, self.fflags, self.data, self.udata = filter, flags, fflags, data, udata

    def __eq__(self, other):
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None

    def __repr__(self):
        return f"<kevent {' '.join(f'{name}={getattr(self, name)}' for name in self.__slots__)}>"


class _Knote:
    def __init__(self, ident, filter, file):  # noqa: A002
        self.ident, self.filter = ident, filter
        self.file = file  # which one it is: a number may be closed, and be another file's
        self.clear = self.oneshot = self.disabled = False
        self.udata = 0
        self.active = False  # something has happened that was not reported yet

    def is_open(self):
        return self.filter == KQ_FILTER_USER or _file(self.ident) == self.file

    def state(self):
        """Whether its condition holds, and the flags and data to report."""
        if self.filter == KQ_FILTER_USER:
            return self.active, 0, 0
        if _is_regular(self.ident):
            left = os.fstat(self.ident).st_size - os.lseek(self.ident, 0, os.SEEK_CUR)
            return self.filter == KQ_FILTER_WRITE or left > 0, 0, max(left, 0)
        shown = _shown(self.ident, _HOLDS[self.filter])
        eof = KQ_EV_EOF if shown & _EOF[self.filter] else 0
        return bool(shown), eof, _unread(self.ident) if self.filter == KQ_FILTER_READ else 1


class kqueue:
    """A kernel event queue."""

    def __init__(self):
        self.closed = True
        self._sets = {}
        try:
            for filter_ in (KQ_FILTER_READ, KQ_FILTER_WRITE):
                self._sets[filter_] = _epoll()
            self._triggered, self._trigger = os.pipe()  # a byte for each user event, so that a sleep ends
        except OSError:
            for epoll in self._sets.values():
                epoll.close()  # the exception keeps them alive
            raise
        os.set_blocking(self._triggered, False)
        self._knotes = {}  # by (ident, filter); what was reported goes to the end
        self.closed = False
        _alive.add(self)

    def fileno(self):
        self._check()
        return self._triggered

    def close(self):
        if not self.closed:
            self.closed = True
            os.close(self._triggered)
            os.close(self._trigger)
            for epoll in self._sets.values():
                epoll.close()

    def __del__(self):
        self.close()

    def _check(self):
        if self.closed:
            raise ValueError("I/O operation on closed kqueue object")

    def control(self, changelist, max_events, timeout=None):
        """kevent(2)."""
        self._check()
        if max_events < 0:
            raise ValueError(f"Length of eventlist must be 0 or positive, got {max_events}")
        if timeout is not None and timeout < 0:
            raise ValueError("timeout must be positive or None")
        answers = []
        for change in changelist or ():
            code = self._change(change)
            if code or change.flags & KQ_EV_RECEIPT:
                if len(answers) < max_events:
                    flags = change.flags | KQ_EV_ERROR
                    answers.append(kevent(change.ident, change.filter, flags, change.fflags, code, change.udata))
                elif code:
                    raise OSError(code, os.strerror(code))
        if answers or not max_events:
            return answers
        return self._wait(max_events, math.inf if timeout is None else _now() + timeout)

    # Changes

    def _change(self, change):
        """Do what is asked; return an errno, or 0."""
        key = change.ident, change.filter
        knote = self._knotes.get(key)
        if knote is not None and not knote.is_open():
            self._drop(knote)
            knote = None
        file = None
        if change.filter in self._sets:
            file = _file(change.ident)
            if file is None:
                return errno.EBADF
        elif change.filter != KQ_FILTER_USER:
            return errno.EINVAL
        if change.flags & KQ_EV_DELETE:
            if knote is None:
                return errno.ENOENT
            self._drop(knote)
            return 0
        if knote is None:
            if not change.flags & KQ_EV_ADD:
                return errno.ENOENT
            knote = _Knote(*key, file)
            code = self._attach(knote)
            if code:
                return code
            self._knotes[key] = knote
        if change.flags & KQ_EV_ADD:
            knote.udata = change.udata
            knote.clear = bool(change.flags & KQ_EV_CLEAR)
            knote.oneshot = bool(change.flags & KQ_EV_ONESHOT)
        if change.flags & KQ_EV_DISABLE:
            knote.disabled = True
        elif change.flags & KQ_EV_ENABLE:
            knote.disabled = False
        if change.filter != KQ_FILTER_USER:
            knote.active = True  # as far as it holds
        elif change.fflags & KQ_NOTE_TRIGGER:
            knote.active = True
            os.write(self._trigger, b"\0")
        return 0

    def _attach(self, knote):
        if knote.filter == KQ_FILTER_USER or _is_regular(knote.ident):
            return 0
        if (
            knote.filter == KQ_FILTER_WRITE
            and stat.S_ISFIFO(os.fstat(knote.ident).st_mode)
            and _shown(knote.ident, _GONE)
        ):
            return errno.EPIPE
        try:
            self._sets[knote.filter].register(knote.ident, _ASKED[knote.filter] | _ET)
        except FileExistsError:
            pass  # a number that was closed, and open again for the same file
        except PermissionError:
            return errno.EINVAL  # a device that is never waited for
        return 0

    def _drop(self, knote):
        self._knotes.pop((knote.ident, knote.filter), None)
        if knote.filter in self._sets:
            try:
                self._sets[knote.filter].unregister(knote.ident)
            except OSError:
                pass  # closed: if a duplicate goes on reporting, it is for nobody

    # Events

    def _wait(self, most, deadline):
        sleep = _poll()
        for fd in (self._triggered, *(epoll.fileno() for epoll in self._sets.values())):
            sleep.register(fd, _IN)
        while True:
            self._note()
            found = self._scan(most)
            left = deadline - _now()
            if found or left <= 0:
                return found
            sleep.poll(None if left == math.inf else left * 1000)

    def _note(self):
        """Ask Linux what has happened."""
        for filter_, epoll in self._sets.items():
            for fd, _ in epoll.poll(0):
                if (fd, filter_) in self._knotes:
                    self._knotes[fd, filter_].active = True
        try:
            os.read(self._triggered, 4096)
        except BlockingIOError:
            pass

    def _scan(self, most):
        found = []
        for key, knote in list(self._knotes.items()):
            if len(found) == most:
                break
            if not knote.active or knote.disabled:
                continue
            try:
                holds, eof, data = knote.state()
            except OSError:
                holds = False
            if not knote.is_open():  # asked last: other threads close the number, and open it as another file
                self._drop(knote)
                continue
            if not holds:
                knote.active = False
                continue
            flags = eof | (KQ_EV_CLEAR if knote.clear else 0) | (KQ_EV_ONESHOT if knote.oneshot else 0)
            found.append(kevent(*key, flags, 0, data, knote.udata))
            if knote.oneshot:
                self._drop(knote)
                continue
            knote.active = not knote.clear
            self._knotes[key] = self._knotes.pop(key)
        return found


def _file(fd):
    """Which file a number is; None if it is not open."""
    try:
        found = os.fstat(fd)
    except (OSError, OverflowError):
        return None
    return found.st_dev, found.st_ino


def _is_regular(fd):
    return stat.S_ISREG(os.fstat(fd).st_mode)


def _shown(fd, mask):
    poll = _poll()
    poll.register(fd, mask)
    return sum(shown for _, shown in poll.poll(0)) & mask


def _unread(fd):
    try:
        return struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0]
    except OSError:
        return 1  # a listening socket: connections, not bytes


_alive = weakref.WeakSet()


def _in_child():
    for queue in _alive:
        if not queue.closed:
            os.close(queue._triggered)
            os.close(queue._trigger)
            for epoll in queue._sets.values():
                epoll.close()


os.register_at_fork(after_in_child=_in_child)
