"""Loop: the asyncio.AbstractEventLoop, put together from its rooms."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import sys
import threading
import warnings
import weakref
from asyncio import coroutines, events
from asyncio.log import logger
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar

from epoll_loop.core.handles import Handle
from epoll_loop.core.poller import FORKED
from epoll_loop.core.reactor import Reactor
from epoll_loop.net.connect import Connecting
from epoll_loop.net.datagrams import Datagrams
from epoll_loop.net.listen import Listening
from epoll_loop.net.pipes import Pipes
from epoll_loop.net.sendfile import Sendfile
from epoll_loop.net.tls import Securing
from epoll_loop.process.signals import Signals
from epoll_loop.process.subprocesses import Subprocesses
from epoll_loop.process.transport import SubprocessTransport
from epoll_loop.transports.tls import Handshakes

T = TypeVar("T")
_ExceptionHandler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]

# Newer Pythons hand all keywords on to the task factory, others all but the name, which the task is given afterwards.
_FACTORY_TAKES_ALL = "name" not in inspect.signature(asyncio.BaseEventLoop.create_task).parameters
_ORIGIN_DEPTH = 10  # frames remembered of where a coroutine was made, in debug mode; asyncio's number

# Where there is none each loop has a current task of its own.
_swap_current_task: Callable[..., Any] = getattr(asyncio.tasks, "_swap_current_task", lambda loop, task: None)

_loops: weakref.WeakSet[Loop] = weakref.WeakSet()


# misc: our handles are asyncio's to isinstance(), not to mypy.
class Loop(  # type: ignore[misc]
    Connecting, Listening, Datagrams, Pipes, Securing, Sendfile, Subprocesses, Signals, asyncio.AbstractEventLoop
):
    """An asyncio event loop on edge-triggered epoll(7).

    What asyncio documents under "Event Loop" holds here. One thread runs it; only `call_soon_threadsafe()` may be
    called from others. In a forked child it refuses to run, and a new one works.
    """

    # All of the state is in slots: a loop without an instance dictionary has its methods looked up faster.
    __slots__ = (
        "_asyncgens",
        "_asyncgens_shut_down",
        "_children",
        "_default_executor",
        "_exception_handler",
        "_executor_shut_down",
        "_handshakes",
        "_pauses",
    )

    def __init__(self) -> None:
        Reactor.__init__(self)
        self._signals_init()
        self._exception_handler: _ExceptionHandler | None = None
        self._default_executor: ThreadPoolExecutor | None = None
        self._executor_shut_down = False
        self._asyncgens: weakref.WeakSet[AsyncGenerator[Any, Any]] = weakref.WeakSet()
        self._asyncgens_shut_down = False
        self._children: set[SubprocessTransport] = set()
        self._handshakes = Handshakes(self._ready)
        self._pauses: set[asyncio.Future[None]] = set()
        self._debug = coroutines._is_debug_mode()  # type: ignore[attr-defined]
        _loops.add(self)

    # Running

    def run_forever(self) -> None:
        """Run until `stop()`.

        RuntimeError if the loop is closed or running, if another one runs in this thread, and in a forked child.
        KeyboardInterrupt and SystemExit from a callback come out of here; the loop can be run again after that.
        """
        self._check_runnable()
        self._choose_clock()
        hooks = sys.get_asyncgen_hooks()
        depth = sys.get_coroutine_origin_tracking_depth()
        main = threading.current_thread() is threading.main_thread()
        self._thread_id = threading.get_ident()
        try:
            if main:
                self._signals_install(replace=False)
            if self._debug:
                sys.set_coroutine_origin_tracking_depth(_ORIGIN_DEPTH)
            sys.set_asyncgen_hooks(firstiter=self._asyncgen_firstiter, finalizer=self._asyncgen_finalizer)
            events._set_running_loop(self)
            try:
                self._run()
            finally:
                self._flush_all()
        finally:
            events._set_running_loop(None)
            sys.set_asyncgen_hooks(*hooks)
            sys.set_coroutine_origin_tracking_depth(depth)
            self._stopping = False
            self._thread_id = None
            if main:
                self._signals_uninstall()

    def run_until_complete(self, future: Any) -> Any:
        """Run until the future, or the task made of the coroutine, is done; return its result or raise its exception.

        RuntimeError if the loop was stopped before.
        """
        self._check_runnable()
        ours = not asyncio.isfuture(future)
        future = asyncio.ensure_future(future, loop=self)
        if ours:
            future._log_destroy_pending = False  # the caller is told by the RuntimeError below
        future.add_done_callback(_stop_when_done)
        try:
            self.run_forever()
        except BaseException:
            if ours and future.done() and not future.cancelled():
                future.exception()  # what comes out is that exception: do not log it as never retrieved
            raise
        finally:
            future.remove_done_callback(_stop_when_done)
        if not future.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        return future.result()

    def _check_runnable(self) -> None:
        self._check_closed()
        if self.is_running():
            raise RuntimeError("This event loop is already running")
        if events._get_running_loop() is not None:
            raise RuntimeError("Cannot run the event loop while another loop is running")
        if self._poller.forked:
            raise RuntimeError(FORKED)

    def close(self) -> None:
        """Send what is still queued, as far as the kernel takes it, and free everything. RuntimeError while running.

        Callbacks that wait are dropped. But every transport is closed, with its `connection_lost()`, children are
        killed, and who waits for either, or for a socket, is woken, by CancelledError where there is nothing to tell.
        """
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        self._flush_all()
        try:
            self._abandon()
        finally:
            self._release()

    def _abandon(self) -> None:
        """End what is in flight: channels, children, and who waits for them. Their callbacks run now or never."""
        if self._poller.forked:
            return
        outer = events._get_running_loop()
        # A task of another loop may be at it: from Python 3.14 on a thread has one current task, and not one a loop.
        task = _swap_current_task(outer, None) if outer is not None else None
        self._thread_id = threading.get_ident()
        events._set_running_loop(self)
        try:
            self._drop_callbacks()
            self._abandon_children()
            for channel in self._channels():
                channel.abandon()
            for pause in self._pauses:
                pause.cancel()
            self._last_turns()
        finally:
            events._set_running_loop(outer)
            if outer is not None:
                _swap_current_task(outer, task)
            self._thread_id = None

    def _release(self) -> None:
        self._signals_close()
        self._usable = False
        self._forget()
        self._executor_shut_down = True
        executor = self._default_executor
        if executor is not None:
            self._default_executor = None
            executor.shutdown(wait=False)
        self._poller.close()

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # A half-built loop has no poller yet, and counts as closed; at the end of the interpreter modules are gone.
        if getattr(self, "_poller", None) is not None and not self.is_closed() and not finalizing():
            try:
                warnings.warn(f"unclosed event loop {self!r}", ResourceWarning, source=self, stacklevel=1)
            finally:  # the warning may be an error
                if not self.is_running():
                    self._flush_all()
                    self._release()

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} running={self.is_running()} closed={self.is_closed()} debug={self.get_debug()}>"
        )

    def __reduce__(self) -> Any:
        raise TypeError("an event loop cannot be pickled or copied")

    # Tasks

    def set_task_factory(self, factory: Callable[..., Any] | None) -> None:
        """Let `factory(loop, coro, **kwargs)` make the tasks, or None for `asyncio.Task`. TypeError if not callable."""
        if factory is not None and not callable(factory):
            raise TypeError("task factory must be a callable or None")
        self._task_factory = factory

    def get_task_factory(self) -> Callable[..., Any] | None:
        """Return the task factory, or None."""
        return self._task_factory

    def _make_task(self, coro: Coroutine[Any, Any, Any] | Generator[Any, Any, Any], kwargs: dict[str, Any]) -> Any:
        assert self._task_factory is not None
        if _FACTORY_TAKES_ALL:
            return self._task_factory(self, coro, **kwargs)
        name = kwargs.pop("name", None)
        if kwargs.get("context", self) is None:
            del kwargs["context"]
        task = self._task_factory(self, coro, **kwargs)
        if name is not None and hasattr(task, "set_name"):
            task.set_name(name)
        return task

    # Threads

    def run_in_executor(self, executor: Executor | None, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Run `func(*args)` in the executor, by default a pool of threads, and return an awaitable of its result."""
        self._check_closed()
        if self._debug and inspect.iscoroutinefunction(func):
            raise TypeError("coroutines cannot be used with run_in_executor()")
        if executor is None:
            if self._executor_shut_down:
                raise RuntimeError("Executor shutdown has been called")
            if self._default_executor is None:
                self._default_executor = ThreadPoolExecutor(thread_name_prefix="asyncio")
            executor = self._default_executor
        return asyncio.wrap_future(executor.submit(func, *args), loop=self)

    def set_default_executor(self, executor: Executor) -> None:
        """Use this `ThreadPoolExecutor` where none is named. TypeError for any other kind."""
        if not isinstance(executor, ThreadPoolExecutor):
            raise TypeError("executor must be ThreadPoolExecutor instance")
        self._default_executor = executor

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the default executor's threads to end, at most `timeout` seconds (a RuntimeWarning says so then)."""
        self._executor_shut_down = True
        executor = self._default_executor
        if executor is None:
            return
        done = self.create_future()
        thread = threading.Thread(target=self._join_executor, args=(executor, done))
        thread.start()
        try:
            async with asyncio.timeout(timeout):
                await done
        except TimeoutError:
            warnings.warn(
                f"The executor did not finishing joining its threads within {timeout} seconds.",
                RuntimeWarning,
                stacklevel=2,
            )
            executor.shutdown(wait=False)
        else:
            thread.join()

    def _join_executor(self, executor: ThreadPoolExecutor, done: asyncio.Future[None]) -> None:
        error: Exception | None = None
        try:
            executor.shutdown(wait=True)
        except Exception as exc:
            error = exc
        if not self.is_closed():
            self.call_soon_threadsafe(_settle, done, error)

    # Asynchronous generators

    def _asyncgen_firstiter(self, agen: AsyncGenerator[Any, Any]) -> None:
        if self._asyncgens_shut_down:
            warnings.warn(
                f"asynchronous generator {agen!r} was scheduled after loop.shutdown_asyncgens() call",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
        self._asyncgens.add(agen)

    def _asyncgen_finalizer(self, agen: AsyncGenerator[Any, Any]) -> None:
        # The collector may run it in any thread.
        self._asyncgens.discard(agen)
        if not self.is_closed():
            self.call_soon_threadsafe(self.create_task, agen.aclose())

    async def shutdown_asyncgens(self) -> None:
        """Close all asynchronous generators that are still open."""
        self._asyncgens_shut_down = True
        closing = list(self._asyncgens)
        self._asyncgens.clear()
        results = await asyncio.gather(*[agen.aclose() for agen in closing], return_exceptions=True)
        for agen, result in zip(closing, results, strict=True):
            if isinstance(result, Exception):
                self.call_exception_handler(
                    {
                        "message": f"an error occurred during closing of asynchronous generator {agen!r}",
                        "exception": result,
                        "asyncgen": agen,
                    }
                )

    # Exceptions

    def set_exception_handler(self, handler: _ExceptionHandler | None) -> None:
        """Let `handler(loop, context)` have what nobody else catches; None for the log. TypeError if not callable."""
        if handler is not None and not callable(handler):
            raise TypeError(f"A callable object or None is expected, got {handler!r}")
        self._exception_handler = handler

    def get_exception_handler(self) -> _ExceptionHandler | None:
        """Return the exception handler, or None."""
        return self._exception_handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log what `context` describes: "message", "exception" and whatever else concerns it."""
        exception = context.get("exception")
        lines = [context.get("message") or "Unhandled exception in event loop"]
        for key in sorted(context):
            if key in ("message", "exception"):
                continue
            value = context[key]
            if key.endswith("_traceback"):
                what = "Object" if key == "source_traceback" else "Handle"
                lines.append(f"{what} created at (most recent call last):\n{''.join(value.format()).rstrip()}")
            else:
                lines.append(f"{key}: {value!r}")
        exc_info = (type(exception), exception, exception.__traceback__) if exception is not None else False
        logger.error("\n".join(lines), exc_info=exc_info)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Call the exception handler; one that fails itself is logged, and the loop goes on."""
        handler = self._exception_handler
        if handler is None:
            self._log_exception(context, "Exception in default exception handler")
            return
        try:
            owner = context.get("task") or context.get("future") or context.get("handle")
            get_context = getattr(owner, "get_context", None)
            if get_context is not None:
                get_context().run(handler, self, context)
            else:
                handler(self, context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._log_exception(
                {"message": "Unhandled error in exception handler", "exception": exc, "context": context},
                "Exception in default exception handler while handling an unexpected error in custom exception handler",
            )

    def _log_exception(self, context: dict[str, Any], failure: str) -> None:
        try:
            self.default_exception_handler(context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:  # a repr() that fails, say
            logger.error(failure, exc_info=True)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: an `asyncio.TimerHandle` calls it; ours tell the queue of timers themselves."""

    # Debug mode

    def set_debug(self, enabled: bool) -> None:
        """Switch debug mode: checks of threads and callbacks, where handles were made, reports of slow callbacks."""
        self._debug = enabled
        if self.is_running():
            self.call_soon_threadsafe(
                sys.set_coroutine_origin_tracking_depth, _ORIGIN_DEPTH if enabled else 0
            )

    def _took(self, what: Any, seconds: float) -> None:
        if seconds >= self.slow_callback_duration:
            task = getattr(what._callback, "__self__", None) if isinstance(what, Handle) else None
            shown = repr(task) if isinstance(task, asyncio.Task) else repr(what)
            logger.warning("Executing %s took %.3f seconds", shown, seconds)


def _settle(future: asyncio.Future[None], error: Exception | None) -> None:
    if not future.done():
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


def _stop_when_done(future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and isinstance(future.exception(), (SystemExit, KeyboardInterrupt)):
        return  # it comes out of run_forever() by itself
    future.get_loop().stop()


def _after_fork() -> None:
    # The child shares the parent's epoll set and sockets: a loop that it inherits must use neither.
    for loop in list(_loops):
        if not loop.is_closed():
            loop._poller.after_fork()
            loop._thread_id = None
            loop._forget()
            if loop._wakeup_before is not None:  # signals of the child are no news for the parent
                loop._wakeup_before = None
                signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
