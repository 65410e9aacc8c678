"""The transport of a child process: its pipes, its exit, and the protocol that is told of both.

What the protocol is told, and when: `connection_made()` once all pipes are connected; then what the pipes and the exit
bring, as it comes; `connection_lost()` once the child has ended and all pipes are closed. A child may have written and
ended before the pipes are connected: what comes early waits.
"""

from __future__ import annotations

import asyncio
import signal
import warnings
from asyncio.log import logger
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

from epoll_loop.process.exits import ExitWatch, reap

if TYPE_CHECKING:
    import subprocess

    from epoll_loop.core.reactor import Reactor


class PipeProtocol(asyncio.Protocol):
    """The protocol of one of the pipes to a child, which tells the child's transport."""

    def __init__(self, proc: SubprocessTransport, fd: int, file: IO[bytes]) -> None:
        self.proc: SubprocessTransport | None = proc
        self.fd = fd  # the child's descriptor
        self.file = file  # our end
        self.pipe: Any = None  # the transport of our end, once there is one
        self.disconnected = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} fd={self.fd} pipe={self.pipe!r}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.pipe = transport

    def data_received(self, data: bytes) -> None:
        if self.proc is not None:
            self.proc._pipe_data_received(self.fd, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.disconnected = True
        if self.proc is not None:
            self.proc._pipe_connection_lost(self.fd, exc)
            self.proc = None

    def pause_writing(self) -> None:
        if self.proc is not None:
            self.proc._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self.proc is not None:
            self.proc._protocol.resume_writing()

    def close(self) -> None:
        """Close our end, also when it has no transport yet."""
        if self.pipe is not None:
            self.pipe.close()
        else:
            self.file.close()
            self.connection_lost(None)


class SubprocessTransport(asyncio.SubprocessTransport):
    """A child process. See `asyncio.SubprocessTransport`; `get_extra_info("subprocess")` is the `subprocess.Popen`."""

    def __init__(self, loop: Reactor, protocol: Any, process: subprocess.Popen[bytes]) -> None:
        super().__init__({"subprocess": process})
        self._proc: subprocess.Popen[bytes] | None = None
        self._closed = True  # as long as there is nothing to close
        self._abandoned = False  # still open when the loop was closed
        self._killed = False  # or it had ended: it does not take long to wait for
        self._loop: Any = loop
        self._protocol = protocol
        self._pid = process.pid
        self._returncode: int | None = None
        self._exit_waiters: set[asyncio.Future[None]] = set()
        # What the protocol is to be told after connection_made(); None from then on.
        self._pending_calls: list[tuple[Any, ...]] | None = []
        files = enumerate((process.stdin, process.stdout, process.stderr))
        self._pipes = {fd: PipeProtocol(self, fd, file) for fd, file in files if file is not None}
        self._exit_watch = ExitWatch(loop, process.pid, self._exited)
        self._proc = process
        self._closed = False

    def __repr__(self) -> str:
        info = [type(self).__name__]
        if self._abandoned:
            info.append("left open")
        elif self._closed:
            info.append("closed")
        info.append(f"pid={self._pid}")
        info.append("running" if self._returncode is None else f"returncode={self._returncode}")
        info += [f"{('stdin', 'stdout', 'stderr')[fd]}={protocol.pipe}" for fd, protocol in self._pipes.items()]
        return f"<{' '.join(info)}>"

    def __reduce__(self) -> Any:
        raise TypeError("a transport belongs to its loop and cannot be pickled")

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Tell this protocol from now on."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol; None after its `connection_lost()`."""
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def get_pid(self) -> int:
        """Return the process id."""
        return self._pid

    def get_returncode(self) -> int | None:
        """Return the exit status, minus the number of the signal that killed it, or None while it runs."""
        return self._returncode

    def get_pipe_transport(self, fd: int) -> asyncio.BaseTransport | None:
        """Return the transport of the pipe to the child's descriptor 0, 1 or 2; None if there is none."""
        protocol = self._pipes.get(fd)
        return None if protocol is None else protocol.pipe

    def send_signal(self, signal: int) -> None:
        """Send a signal, unless the child has ended; ProcessLookupError after `connection_lost()`. See kill(2)."""
        if self._proc is None:
            raise ProcessLookupError
        self._proc.send_signal(signal)

    def terminate(self) -> None:
        """Send SIGTERM. See `send_signal()`."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL. See `send_signal()`."""
        self.send_signal(signal.SIGKILL)

    def is_closing(self) -> bool:
        """Return True after `close()`."""
        return self._closed

    def close(self) -> None:
        """Close the pipes, and kill the child if it still runs."""
        if not self._closed:
            self._closed = True
            for protocol in self._pipes.values():
                protocol.close()
            self._killed = self._kill()

    def __del__(self, warn: Callable[..., None] = warnings.warn) -> None:
        try:
            if not self._closed or self._abandoned:
                warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
        finally:  # the warning may be an error
            self.close()
            self._end()  # if it still runs, its loop is dropped as well

    def _kill(self) -> bool:
        """Kill the child, unless it has ended. False if we may not, or need not."""
        process = self._proc
        if process is None or self._loop._poller.forked:
            return False  # in a forked child it is our sibling
        if process.poll() is None:  # what this reaps, _exited() finds in the Popen
            if self._loop.get_debug():
                logger.warning("Close running child process: kill %r", self)
            try:
                process.kill()
            except PermissionError:  # it runs as somebody else
                return False
        return True

    def _end(self) -> int | None:
        """Reap the child, after close(), without the loop; return its exit status, None if there is nothing to reap."""
        process = self._proc
        if process is None or self._returncode is not None:
            return None
        self._exit_watch.close()
        return process.wait() if self._killed else None

    async def _connect(self) -> None:
        """Connect the pipes; return when the protocol has had its `connection_made()`."""
        loop = self._loop
        try:
            for protocol in self._pipes.values():
                connect = loop.connect_read_pipe if protocol.fd else loop.connect_write_pipe
                await connect(lambda protocol=protocol: protocol, protocol.file)
            loop.call_soon(self._protocol.connection_made, self)
        except BaseException:
            self._protocol = asyncio.SubprocessProtocol()  # who was not told of the beginning is not told of the end
            raise
        finally:
            early, self._pending_calls = self._pending_calls, None
        for callback, *args in early or ():
            loop.call_soon(callback, *args)
        await asyncio.sleep(0)

    async def _wait(self) -> int | None:
        """Wait until the child has ended, and return its exit status. asyncio's `Process` calls it."""
        if self._returncode is None and self._loop is not None:
            waiter = self._loop.create_future()
            self._exit_waiters.add(waiter)
            try:
                await waiter
            finally:
                self._exit_waiters.discard(waiter)
        return self._returncode

    def _call(self, callback: Callable[..., Any], *args: Any) -> None:
        # Never at once: an exception of the protocol must not end the pipe that brings the news.
        if self._pending_calls is None:
            self._loop.call_soon(callback, *args)
        else:
            self._pending_calls.append((callback, *args))

    def _pipe_data_received(self, fd: int, data: bytes) -> None:
        self._call(self._protocol.pipe_data_received, fd, data)

    def _pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._call(self._protocol.pipe_connection_lost, fd, exc)
        self._try_finish()

    def _exited(self) -> None:
        if self._returncode is None and self._proc is not None:
            returncode = reap(self._proc)
            if returncode is not None:
                self._exit_watch.close()
                self._process_exited(returncode)

    def _process_exited(self, returncode: int) -> None:
        self._returncode = returncode
        if self._loop.get_debug():
            logger.info("%r exited with return code %r", self, returncode)
        self._call(self._protocol.process_exited)
        # Now, and not when the pipes are closed: the child may have left them to somebody who keeps them open.
        self._wake_waiters()
        self._try_finish()

    def _wake_waiters(self) -> None:
        for waiter in self._exit_waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _try_finish(self) -> None:
        if self._returncode is not None and all(protocol.disconnected for protocol in self._pipes.values()):
            self._call(self._call_connection_lost)

    def _call_connection_lost(self) -> None:
        try:
            self._protocol.connection_lost(None)
        finally:
            self._forget()

    def _forget(self) -> None:
        self._loop._children.discard(self)
        self._loop = self._proc = self._protocol = None

    def _abandon(self) -> None:
        """Leave no process and no descriptor behind: the loop is being closed."""
        self._abandoned = not self._closed
        self.close()
        returncode = self._end()
        if returncode is not None:
            self._process_exited(returncode)
        for waiter in self._exit_waiters:
            waiter.cancel()  # of a child that we may not kill
