"""What Linux has and a Python may have no name for: PyPy knows neither eventfd(2) nor pidfd_open(2) nor EPOLLRDHUP.

The kernel below is the same one, so they are there all the same: the constant by its value, the calls by way of the C
library.
"""

from __future__ import annotations

import os
import select
import sys

__all__ = ["EPOLLRDHUP", "eventfd", "eventfd_write", "pidfd_open"]

# These values are the kernel's interface to programs: they never change, and are the same on every architecture.
EPOLLRDHUP: int = getattr(select, "EPOLLRDHUP", 0x2000)
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
    return _call("syscall", _PIDFD_OPEN, pid, 0)


eventfd_write = getattr(os, "eventfd_write", _write)
pidfd_open = getattr(os, "pidfd_open", _pidfd_open)
