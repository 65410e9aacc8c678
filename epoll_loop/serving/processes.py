"""Process: a worker that is a process with a loop of its own, spawned by multiprocessing."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import multiprocessing
import pickle
import signal
import socket
import sys
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.pool import ExceptionWithTraceback  # type: ignore[attr-defined]
from typing import Any

from epoll_loop.loop import Loop
from epoll_loop.process.exits import ExitWatch
from epoll_loop.serving.job import Job, on_sigterm
from epoll_loop.serving.messages import Kind, Messages
from epoll_loop.serving.server import Serving

_SPAWN = multiprocessing.get_context("spawn")


def pickled(job: Job) -> bytes:
    """Return what `Process` takes. TypeError with the reason if it can not be had in another process."""
    for address in job.addresses:
        if address.tls is not None and not callable(address.tls):
            raise TypeError(
                f"{address}: an SSLContext can not be handed to another process; "
                "tls is a function that returns one, and is called in each of them"
            )
    try:
        return pickle.dumps(job)
    except Exception as exc:
        raise TypeError(f"what many processes serve is pickled, and {job.events!r} can not be: {exc}") from exc


class Process:
    """What the parent has of a worker. `place` is told of it; see `workers.Place`."""

    def __init__(self, loop: Any, payload: bytes, index: int, sockets: list[list[socket.socket]], place: Any) -> None:
        self._place = place
        self._error: BaseException | None = None
        self._spoke = self._over = False
        ours, theirs = socket.socketpair()
        self._messages = Messages(loop, ours, place.taken)
        arguments = (payload, index, sockets, theirs)
        self._process = _SPAWN.Process(target=_main, args=arguments, name=f"epoll_loop-{index}")
        try:
            with _interrupts_later():
                self._process.start()
            self._messages.start(self._received, self._leaves)
            assert self._process.pid is not None
            # Not by its sentinel, which a process that the worker has forked holds open.
            self._watch = ExitWatch(loop, self._process.pid, self._exited)
        except BaseException:
            self._messages.close()
            if self._process.pid is not None:
                self._process.kill()
                self._process.join()
                self._process.close()
            raise
        finally:
            for sock in (theirs, *(sock for each in sockets for sock in each)):
                sock.close()

    def hand(self, index: int, sock: socket.socket) -> None:
        """Hand a connection over."""
        self._messages.send(Kind.ACCEPTED, index, sock=sock)

    def is_behind(self) -> bool:
        """Return whether it can not take what it gets."""
        return self._messages.is_behind()

    def drain(self) -> None:
        """Have it end, with what is queued."""
        self._messages.send(Kind.DRAIN)

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.join()
        self._exited()

    def _received(self, kind: Kind, number: int, payload: bytes, sock: socket.socket | None) -> None:
        self._spoke = True
        if kind is Kind.READY:
            self._place.ready()
        elif kind is Kind.RELEASED:
            self._place.released(number)
        elif kind is Kind.SHUTDOWN:
            self._place.shutdown()
        elif kind is Kind.LEAVES:
            self._leaves()
            self.drain()
        elif kind is Kind.FAILED:
            self._error = _unpickled_error(payload)

    def _leaves(self) -> None:
        self._place.leaves()
        self._place.untaken(self._messages.unsent())

    def _exited(self) -> None:
        if self._over:
            return
        self._over = True
        self._watch.close()
        while self._messages.read():  # its last words
            pass
        unsent = self._messages.unsent()
        self._messages.close()
        self._process.join()
        code, pid = self._process.exitcode or 0, self._process.pid
        self._process.close()
        way = f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.strsignal(-code)})"
        # It had no say when it could not import the program, which may have called serve() again.
        hint = "" if self._spoke else '; a program that calls serve() needs `if __name__ == "__main__":`'
        self._place.ended(f"its process {pid} has ended with {way}{hint}", self._error)
        self._place.untaken(unsent)


@contextlib.contextmanager
def _interrupts_later() -> Iterator[None]:
    """Let a process begin with SIGINT blocked: it comes to all of a terminal, and the parent has to decide."""
    resource_tracker.ensure_running()  # else it is started meanwhile, and unblocks it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# In the worker


def _main(payload: bytes, index: int, sockets: list[list[socket.socket]], channel: socket.socket) -> None:
    """What the process runs."""
    # Not SIG_IGN, which the programs that it starts would inherit.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    for sock in (channel, *(sock for each in sockets for sock in each)):
        sock.set_inheritable(False)
    with asyncio.Runner(loop_factory=Loop) as runner:
        failed = runner.run(_serve(payload, index, sockets, channel))
    sys.exit(int(failed))


async def _serve(payload: bytes, index: int, sockets: list[list[socket.socket]], channel: socket.socket) -> bool:
    owner = _Owner(channel)
    try:
        with on_sigterm(owner.loop, owner.leave):
            await _unpickled(payload).serve(index, sockets, owner)
    except Exception as exc:
        owner.failed(exc)
        return True
    finally:
        owner.finish()
    return False


def _unpickled(payload: bytes) -> Job:
    try:
        job: Job = pickle.loads(payload)
    except (AttributeError, ImportError) as exc:
        raise TypeError(f"what many processes serve is imported by each of them: {exc}") from exc
    return job


class _Owner:
    """What the server of this process has in place of the parent."""

    def __init__(self, channel: socket.socket) -> None:
        self.loop: Any = asyncio.get_running_loop()
        self._messages = Messages(self.loop, channel)
        self._server: Serving | None = None
        self._released = 0  # in this iteration

    def serving(self, server: Serving) -> None:
        """The server listens."""
        self._server = server
        self._messages.send(Kind.READY)
        self._messages.start(self._received, server.drain)  # without the parent it ends

    def released(self) -> None:
        """A connection is not served any more."""
        self._released += 1
        if self._released == 1:
            self.loop.call_soon(self._tell_released)

    def _tell_released(self) -> None:
        if self._released:
            self._messages.send(Kind.RELEASED, self._released)
            self._released = 0

    def shutdown(self) -> None:
        """All loops are to end."""
        self._messages.send(Kind.SHUTDOWN)

    def leave(self) -> None:
        """SIGTERM has come for this process alone: end, when all that is under way has come."""
        self._messages.send(Kind.LEAVES)

    def failed(self, exc: Exception) -> None:
        """The server could not start, or has ended with an exception."""
        self._messages.send(Kind.FAILED, payload=_pickled_error(exc))

    def finish(self) -> None:
        """All is over."""
        self._messages.finish()

    def _received(self, kind: Kind, number: int, payload: bytes, sock: socket.socket | None) -> None:
        assert self._server is not None
        if kind is Kind.DRAIN:
            self._server.drain()
        elif sock is not None:
            self._server.accept(number, sock)
        else:
            self.released()


def _pickled_error(exc: Exception) -> bytes:
    """The exception, with its traceback as its cause, as text; and what is in its place where it can not be had."""
    remote = functools.partial(ExceptionWithTraceback, tb=exc.__traceback__)
    instead = pickle.dumps(remote(RuntimeError(f"{type(exc).__name__}: {exc}")))
    try:
        data = pickle.dumps(remote(exc))
    except Exception:
        data = instead
    return pickle.dumps((data, instead))


def _unpickled_error(payload: bytes) -> BaseException:
    data, instead = pickle.loads(payload)
    error: BaseException
    try:
        error = pickle.loads(data)
    except Exception:  # it may need what is in the worker alone
        error = pickle.loads(instead)
    return error
