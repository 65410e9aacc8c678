"""The reactor: the queues, and the phases of one iteration.

    poll      wait for events; mark the channels they are for (I2: no callback runs until the whole batch is marked)
    dispatch  let each marked channel use its readiness, then those carried over from the last iteration
    timers    move what is due to the ready queue, behind it what other threads have sent
    ready     run what was ready when this phase began (I21)
    flush     send what the transports have written, all of it in one burst

In the first iteration of a run ready comes before dispatch: what was scheduled before the run comes before what came
from outside by then, as with asyncio. A program may send, and only then run the coroutine that prepares for the answer.

Descriptors are closed in the ready phase, so never inside a batch of events. The loop sleeps only while every queue is
empty. An exception that leaves a phase (KeyboardInterrupt, SystemExit) leaves the rest of its queue for the next run.
"""

from __future__ import annotations

import asyncio
import collections
import inspect
import math
import threading
import weakref
from asyncio import Future, Task, _get_running_loop
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from epoll_loop.core import syscalls
from epoll_loop.core.backend import new_poller
from epoll_loop.core.handles import Handle, new_handle, outer_stack
from epoll_loop.core.poller import FORKED, READ, WRITE, Channel, Poller, SocketWatch, Watch
from epoll_loop.core.syscalls import Link, Queue, monotonic  # the last as an object: not in the .pxd
from epoll_loop.core.timers import TimerHandle, TimerQueue

_ROUNDING = 1e-9  # seconds: asyncio's own loop lets timers fire early by the resolution of the clock

# A sleep is cut to a day: some kernels refuse longer ones (I23).
_LONGEST_SLEEP = 86400.0
_NEVER = math.inf
_LAST_TURNS = 16
_RECYCLES = syscalls.COUNTS_REFERENCES


class Reactor:
    """What every iteration touches; `epoll_loop.Loop` adds everything that is awaited or rarely called."""

    __slots__ = (
        "__weakref__",
        "_asleep",
        "_clock",
        "_debug",
        "_incoming",
        "_poller",
        "_ready",
        "_sent",
        "_stopping",
        "_task_factory",
        "_thread_id",
        "_timers",
        "_torn",
        "_unflushed",
        "_usable",
        "_usual_clock",
        "slow_callback_duration",
    )

    def __init__(self) -> None:
        self._poller: Poller = new_poller()
        self._timers = TimerQueue()
        self._ready: Queue[Link] = Queue()
        # What call_soon_threadsafe() has sent: a deque, whose append and popleft need no lock; `_sent` is set after.
        self._incoming: collections.deque[Handle] = collections.deque()
        self._sent = False
        self._unflushed: Queue[Link] = Queue()  # transports that have written
        self._asleep = False
        self._torn = False  # an exception came out between poll and turn: edges may be lost
        self._stopping = False
        self._usable = True  # and not closed; false in an extension object whose __init__() was not called
        self._debug = False
        self._thread_id: int | None = None
        self._task_factory: Callable[..., Any] | None = None
        self.slow_callback_duration = 0.1
        try:
            assigned = self._clock  # by a subclass, before it called this
        except AttributeError:
            assigned = None
        self._clock: Callable[[], float] = monotonic if assigned is None else assigned
        self._choose_clock()

    # The clock

    @property
    def time(self) -> Callable[[], float]:
        """The loop's clock, `time.monotonic()`, in seconds: `loop.time()`.

        Another function may be assigned, as test tools do: timers go by that from then on. So they do by a method that
        a subclass has when a run begins. Deleting the attribute brings the usual clock back.
        """
        return self._clock

    @time.setter
    def time(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._choose_clock()

    @time.deleter
    def time(self) -> None:
        self._clock = monotonic
        self._choose_clock()

    def _choose_clock(self) -> None:
        # There are too many timers to look for a method of a subclass each time.
        self._usual_clock = self._clock is monotonic and type(self).time is Reactor.time

    def _now(self) -> float:
        return syscalls.monotonic() if self._usual_clock else float(self.time())

    # Scheduling

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Handle:
        """Run `callback(*args)` in the next iteration, in the order of the calls.

        It runs in `context`, or in a copy of the current context. Returns a handle that can cancel it. RuntimeError if
        the loop is closed, and in debug mode from another thread: `call_soon_threadsafe()` is for that.
        """
        if not self._usable:
            raise RuntimeError("Event loop is closed")
        if self._debug:
            self._check_thread()
            _check_callback(callback, "call_soon")
        handle = new_handle(callback, args, self, context)
        if self._debug:
            handle._source_traceback = outer_stack()
        if self._sent:
            self._receive()  # what was sent before this comes before this
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Handle:
        """Do what `call_soon()` does, from any thread or signal handler, and wake the loop if it sleeps."""
        if not self._usable:
            raise RuntimeError("Event loop is closed")
        if self._debug:
            _check_callback(callback, "call_soon_threadsafe")
        handle = Handle(callback, args, self, context)
        # The order of these: append, then look whether the loop sleeps. The loop says first that it is going to sleep,
        # and looks then whether something has come. So one of the two sees the other (I24).
        self._incoming.append(handle)
        self._sent = True
        syscalls.fence()
        if self._asleep:
            self._asleep = False  # one write a sleep
            self._poller.wake()
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        """Run `callback(*args)` after `delay` seconds, never earlier; equal deadlines in the order of the calls."""
        if delay is None:
            raise TypeError("delay must not be None")
        return self._schedule(self._now() + delay, callback, args, context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        """Run `callback(*args)` when the loop's clock shows `when` seconds, never earlier."""
        if when is None:
            raise TypeError("when cannot be None")
        return self._schedule(when, callback, args, context)

    def _schedule(
        self, when: float, callback: Callable[..., Any], args: tuple[Any, ...], context: Context | None
    ) -> TimerHandle:
        if not self._usable:
            raise RuntimeError("Event loop is closed")
        if self._debug:
            self._check_thread()
            _check_callback(callback, "call_later")
        timer = TimerHandle.__new__(TimerHandle)
        timer._callback = callback
        timer._args = args
        timer._loop = self
        timer._context = syscalls.copy_context() if context is None else context
        timer._cancelled = False
        timer._source_traceback = outer_stack() if self._debug else None
        timer._when = when + 0.0  # a float in both builds
        self._timers.push(timer)
        return timer

    def create_future(self) -> Future[Any]:
        """Return an `asyncio.Future` of this loop."""
        running: Any = _get_running_loop()
        if running is self:
            return Future()  # it finds the running loop by itself, which is cheaper than a keyword
        return Future(loop=self)  # type: ignore[arg-type]

    def create_task(self, coro: Coroutine[Any, Any, Any], **kwargs: Any) -> Any:
        """Schedule a coroutine and return its task; keywords as `asyncio.Task` of the running Python takes them."""
        if not self._usable:
            raise RuntimeError("Event loop is closed")
        if self._task_factory is not None:
            return self._make_task(coro, kwargs)  # type: ignore[attr-defined]
        return Task(coro, loop=self, **kwargs)  # type: ignore[arg-type]

    def stop(self) -> None:
        """Leave `run_forever()` after this iteration."""
        self._stopping = True

    def is_closed(self) -> bool:
        """Return True after `close()`."""
        return not self._usable

    def is_running(self) -> bool:
        """Return True while `run_forever()` runs."""
        return self._thread_id is not None

    def get_debug(self) -> bool:
        """Return True in debug mode."""
        return self._debug

    # Descriptors that belong to somebody else

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:
        """Call `callback(*args)` while the descriptor, or the object with a `fileno()`, has something to read.

        Replaces an earlier callback. PermissionError for what is always ready, such as regular files; RuntimeError
        for a transport's descriptor.
        """
        handle = Handle(callback, args, self)
        watch = self._arm(_fileno(fd), READ)
        if watch.reader is not None:
            watch.reader.cancel()
        watch.reader = handle

    def add_writer(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:
        """Call `callback(*args)` while a descriptor (or an object with one) takes data. See `add_reader`."""
        handle = Handle(callback, args, self)
        watch = self._arm(_fileno(fd), WRITE)
        if watch.writer is not None:
            watch.writer.cancel()
        watch.writer = handle

    def remove_reader(self, fd: Any) -> bool:
        """Undo `add_reader()`; return True if there was a callback."""
        watch = self._watched_by(fd)
        if watch is None or watch.reader is None:
            return False
        watch.reader.cancel()
        watch.reader = None
        self._disarm(watch, READ)
        return True

    def remove_writer(self, fd: Any) -> bool:
        """Undo `add_writer()`; return True if there was a callback."""
        watch = self._watched_by(fd)
        if watch is None or watch.writer is None:
            return False
        watch.writer.cancel()
        watch.writer = None
        self._disarm(watch, WRITE)
        return True

    def _watched_by(self, fd: Any) -> Watch | None:
        if not self._usable or (hasattr(fd, "fileno") and fd.fileno() == -1):
            return None  # programs do close first, the loop or the socket, and asyncio puts up with it
        return self._watched(_fileno(fd))

    def _watched(self, fd: int) -> Watch | None:
        channel = self._poller.lookup(fd)
        if channel is None or type(channel) is SocketWatch:
            return None
        if type(channel) is not Watch:
            raise RuntimeError(f"File descriptor {fd!r} is used by transport {channel!r}")
        return channel

    def _arm(self, fd: int, interest: int) -> Watch:
        self._check_closed()
        watch = self._watched(fd)
        if watch is not None:
            watch.interest |= interest
            # Also when nothing changes: the kernel notices a descriptor that was closed and opened again.
            if self._poller.modify(watch):
                return watch
            watch.drop()
        watch = Watch(fd)
        watch.interest = interest
        self._poller.add(watch, False)
        return watch

    def _disarm(self, watch: Watch, interest: int) -> None:
        watch.interest &= ~interest
        if not watch.interest:
            self._poller.remove(watch)
        elif not self._poller.modify(watch):
            watch.drop()

    def _watch_of(self, sock: Any) -> SocketWatch | None:
        """Return the registration that `_until_readable()` has made for this socket, or None."""
        return self._find_watch(sock)

    def _find_watch(self, sock: Any) -> SocketWatch | None:
        channel = self._poller.lookup(syscalls.fileno(sock))
        if type(channel) is SocketWatch:
            watch = channel
            owner = watch.owner()
            # Another object for the same open descriptor is as good.
            if owner is sock or (owner is not None and owner.fileno() == watch.fd):
                return watch
        return None

    def _unwatch(self, sock: Any) -> None:
        """Forget a socket that is about to be closed (I4)."""
        watch = self._find_watch(sock)
        if watch is not None:
            self._poller.remove(watch)

    def _until_readable(self, sock: Any) -> Future[None]:
        """Return a future for the next event of a socket that has just said EAGAIN: when it is done, try again.

        RuntimeError if a transport has the socket.
        """
        return self._next_event(sock, False)

    def _until_writable(self, sock: Any) -> Future[None]:
        """Return a future for when the socket may take more, or is connected. See `_until_readable()`."""
        return self._next_event(sock, True)

    def _next_event(self, sock: Any, write: bool) -> Future[None]:
        self._check_closed()
        watch = self._find_watch(sock)
        if watch is None:
            fd = _fileno(sock)
            owner = _weak_reference(sock)
            if self._watched(fd) is not None or owner is None:
                # add_reader() or add_writer() has it, for which the kernel has to tell again and again.
                return self._next_report(sock, write)  # type: ignore[attr-defined,no-any-return]
            watch = SocketWatch(fd, owner)
            self._poller.add(watch, True)
        # A coroutine of this loop asks, so the running loop, which a future without keywords takes, is this one.
        future: Future[None] = Future(loop=self) if self._thread_id is None else Future()  # type: ignore[arg-type]
        watch.wait(future, write)
        return future

    def _channels(self) -> list[Channel]:
        return self._poller.channels()

    # The iteration

    def _run(self) -> None:
        first = True
        while True:
            self._run_once(first)
            if self._stopping:
                return
            first = False

    def _run_once(self, first: bool = False) -> None:
        poller = self._poller
        active = poller.active
        ready = self._ready
        unflushed = self._unflushed
        if poller.forked:
            raise RuntimeError(FORKED)
        if self._torn:
            poller.recover()
        self._torn = True
        if (
            syscalls.pending(ready)
            or syscalls.pending(active)
            or syscalls.pending(unflushed)
            or self._sent
            or self._stopping
        ):
            poller.wait(0.0)
        else:
            self._sleep()
        self._torn = False
        if not first and syscalls.pending(active):
            self._turns(active)
        if self._timers._heap:
            # A clock that somebody moves is wherever it is put: a deadline that is off by rounding has come.
            self._timers.pop_due(self._now() + (0.0 if self._usual_clock else _ROUNDING), ready)
        if self._sent:
            self._receive()
        if syscalls.pending(ready):
            self._turns(ready)
        if first and syscalls.pending(active):
            self._turns(active)
        if syscalls.pending(unflushed):
            self._turns(unflushed)

    def _sleep(self) -> None:
        timeout = -1.0
        deadline = self._timers.next()
        if deadline != _NEVER:
            timeout = min(max(deadline - self._now(), 0.0), _LONGEST_SLEEP)
        self._asleep = True
        try:
            # Asleep first, then this look at the queues: see call_soon_threadsafe(). A signal handler may call either.
            syscalls.fence()
            if self._sent or syscalls.pending(self._ready):
                timeout = 0.0
            self._poller.wait(timeout)
        finally:
            self._asleep = False

    def _turns(self, queue: Queue[Link]) -> None:
        # What was there at the beginning and no more (I21). What an exception leaves stays for the next run. This is
        # the only place where the loop calls into callbacks, and where their exceptions arrive.
        poller = self._poller
        debug = self._debug
        count = syscalls.pending(queue)
        link: Link | None = None
        while count:
            try:
                while count:
                    if poller.forked:
                        return  # we are a forked child by now, and _forget() was called
                    count -= 1
                    link = queue.popleft()
                    if debug:
                        started = syscalls.monotonic()
                        link.turn()
                        self._took(link, syscalls.monotonic() - started)  # type: ignore[attr-defined]
                    else:
                        link.turn()
                    if _RECYCLES and syscalls.unshared(link):
                        link.recycle()
            except (SystemExit, KeyboardInterrupt):
                # In the middle of a turn, or (pure) before its first line: the kernel says again what is ready.
                self._torn = True
                if link is not None:
                    link.interrupted()
                raise
            except BaseException as exc:
                link.failed(exc)  # type: ignore[union-attr]
        link = None  # the frame may live on in a traceback: see syscalls.call()

    def _receive(self) -> None:
        self._sent = False  # first: what is sent from now on sets it again
        syscalls.fence()
        while self._incoming:
            self._ready.append(self._incoming.popleft())

    def _flush_all(self) -> None:
        # A flush may give the protocol its turn, and that may write again; a blocked transport stays off the list.
        for _ in range(_LAST_TURNS):
            if not syscalls.pending(self._unflushed) or self._poller.forked:
                return
            self._turns(self._unflushed)

    def _drop_callbacks(self) -> None:
        # Callbacks that wait are dropped, as asyncio's documentation says. Not so the ends of transports: descriptors
        # and waiters depend on them.
        link: Link
        for _ in range(syscalls.pending(self._ready)):
            link = self._ready.popleft()
            if not isinstance(link, Handle):
                self._ready.append(link)
        self._incoming.clear()

    def _last_turns(self) -> None:
        # For what closing the loop has set going, and for who was woken by it; no more than that.
        for _ in range(_LAST_TURNS):
            self._turns(self._ready)
            self._turns(self._unflushed)

    def _forget(self) -> None:
        # Also what this iteration has not come to: a forked child must not send the parent's bytes a second time.
        self._ready.clear()
        self._incoming.clear()
        self._poller.active.clear()
        self._unflushed.clear()
        self._timers.clear()

    # Checks

    def _check_closed(self) -> None:
        if not self._usable:
            raise RuntimeError("Event loop is closed")

    def _check_thread(self) -> None:
        if self._thread_id is not None and self._thread_id != threading.get_ident():
            raise RuntimeError("Non-thread-safe operation invoked on an event loop other than the current one")


def _fileno(fd: Any) -> int:
    if not isinstance(fd, int):
        try:
            fd = int(fd.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"Invalid file object: {fd!r}") from None
    if fd < 0:
        raise ValueError(f"Invalid file descriptor: {fd}")
    return int(fd)


def _weak_reference(sock: Any) -> Any:
    try:
        return weakref.ref(sock)
    except TypeError:
        return None


def _check_callback(callback: Any, method: str) -> None:
    if asyncio.iscoroutine(callback) or inspect.iscoroutinefunction(callback):
        raise TypeError(f"coroutines cannot be used with {method}()")
    if not callable(callback):
        raise TypeError(f"a callable object was expected by {method}(), got {callback!r}")
