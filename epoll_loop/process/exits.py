"""The exit of a child: a pidfd of Linux in the poller, or a thread where there is no pidfd to be had.

Both only tell that the child has ended. It is reaped in the loop's thread, and by its own pid: no other child is ever
waited for, and until then no other process gets the pid, so no signal hits a stranger.
"""

from __future__ import annotations

import contextvars
import os
import threading
from asyncio.log import logger
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from epoll_loop.core import kernel

if TYPE_CHECKING:
    import subprocess

    from epoll_loop.core.reactor import Reactor


class ExitWatch:
    """Calls `exited()` in the loop when a child has ended, and perhaps again, until `close()`.

    RuntimeError where there is neither a pidfd nor a thread left.
    """

    def __init__(self, loop: Reactor, pid: int, exited: Callable[[], Any]) -> None:
        self._loop = loop
        self._pidfd = -1
        try:
            self._pidfd = kernel.pidfd_open(pid)
            loop.add_reader(self._pidfd, exited)
        except (ImportError, OSError):  # ImportError: no name for it, and no ctypes
            # An old kernel or another one, a sandbox, no descriptor left; ESRCH where SIGCHLD is ignored.
            self.close()
            name = f"asyncio-waitpid-{pid}"
            args = loop, pid, exited, contextvars.copy_context()
            threading.Thread(target=_wait, args=args, name=name, daemon=True).start()

    def close(self) -> None:
        """Stop watching. What a thread has yet to tell, it tells in vain."""
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


def _wait(loop: Reactor, pid: int, exited: Callable[[], Any], context: contextvars.Context) -> None:
    try:
        kernel.wait_for_exit(pid)
    except ChildProcessError:
        pass  # reaped already
    try:
        loop.call_soon_threadsafe(exited, context=context)
    except RuntimeError:
        pass  # the loop was closed meanwhile, and has reaped the child itself


def reap(process: subprocess.Popen[bytes]) -> int | None:
    """Return the exit status of a child that has ended, and None for one that has not. See waitpid(2).

    255, with a warning, if somebody else's `wait()` has taken the status.
    """
    if process.returncode is None:
        try:
            pid, status = os.waitpid(process.pid, os.WNOHANG)
        except ChildProcessError:
            with process._waitpid_lock:  # type: ignore[attr-defined]
                pass  # if it is Popen.wait() in another thread that has it, let it say what it is
            if process.returncode is None:
                logger.warning(
                    "child process pid %d exit status already read:  will report returncode 255", process.pid
                )
                process.returncode = 255
        else:
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode
