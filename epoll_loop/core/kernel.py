"""What Linux has and a Python may have no name for: PyPy knows no eventfd(2), pidfd_open(2), waitid(2) and EPOLLRDHUP.

The kernel below is the same one, so they are there all the same: the constant by its value, the calls by way of the C
library.
"""

from __future__ import annotations

import errno
import os
import select
import sys

__all__ = ["EPOLLRDHUP", "eventfd", "eventfd_write", "pidfd_open", "wait_for_exit"]

# These values are the kernel's interface to programs: they never change, and are the same on every architecture.
EPOLLRDHUP: int = getattr(select, "EPOLLRDHUP", 0x2000)
_P_PID, _WEXITED, _WNOWAIT = 1, 4, 0x01000000  # of waitid(2)
_PIDFD_OPEN = 434  # a system call by number: older C libraries have no function for it


def _call(name: str, *args: int) -> int:
    import ctypes  # where it is not needed it is not worth the time that it takes

    found: int = getattr(ctypes.CDLL(None, use_errno=True), name)(*map(ctypes.c_long, args))
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return found


def eventfd() -> int:
    """eventfd(2): the descriptor of a counter that starts with 0, non-blocking and not inheritable. OSError."""
    if hasattr(os, "eventfd"):
        return os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    return _call("eventfd", 0, os.O_NONBLOCK | os.O_CLOEXEC)  # by definition the same flags


def _write(fd: int, value: int) -> None:
    os.write(fd, value.to_bytes(8, sys.byteorder))


def _pidfd_open(pid: int) -> int:
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return _call("syscall", _PIDFD_OPEN, pid, 0)


def wait_for_exit(pid: int) -> None:
    """waitid(2): block until a child has ended, and leave it to be reaped. ChildProcessError if it is already."""
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    else:
        _wait_for_exit(pid)


def _wait_for_exit(pid: int) -> None:
    while True:
        try:
            _call("waitid", _P_PID, pid, 0, _WEXITED | _WNOWAIT)
            return
        except InterruptedError:
            pass  # a signal that this thread had to take: Python's own calls go on as well


eventfd_write = getattr(os, "eventfd_write", _write)
pidfd_open = getattr(os, "pidfd_open", _pidfd_open)
