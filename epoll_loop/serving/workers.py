"""Workers: many loops that serve the same addresses, supervised by a parent that serves nothing itself."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import socket
from collections.abc import Callable
from typing import Any

from epoll_loop.core.missing import CHILDREN, UNIX_SOCKETS, need
from epoll_loop.loop import Loop
from epoll_loop.serving.addresses import Address
from epoll_loop.serving.balance import LEAST_CONNECTIONS, RANDOM, Accepting
from epoll_loop.serving.binding import Accepted, bind
from epoll_loop.serving.events import Events
from epoll_loop.serving.job import Job, on_sigterm
from epoll_loop.serving.processes import Process, pickled
from epoll_loop.serving.threads import Thread

logger = logging.getLogger("asyncio")

# Seconds until a worker is replaced: the first, doubled each time up to the last, until one has served for so long.
_FIRST_DELAY, _LAST_DELAY = 0.1, 5.0
# Seconds that a worker has after `shutdown_timeout`, for its own end.
_GRACE = 1.0


class Place:
    """The place of one worker after the other."""

    def __init__(self, owner: Workers, index: int) -> None:
        self._owner = owner
        self.index = index
        self.worker: Process | Thread | None = None
        self.connections = 0
        """How many it has, of those that were handed to it."""
        self._ready = self._leaves = False
        self._since = math.inf  # when the worker was ready
        self._delay = _FIRST_DELAY
        self._limit: asyncio.TimerHandle | None = None  # to the end of one that leaves

    def begin(self, worker: Process | Thread) -> None:
        """A worker was started."""
        self.worker = worker
        self._leaves = False

    def takes(self) -> bool:
        """Return whether there is a worker that takes connections."""
        return self._ready and not self._leaves and self.worker is not None and not self.worker.is_behind()

    def hand(self, index: int, sock: socket.socket) -> None:
        """Hand a connection to the worker."""
        assert self.worker is not None
        self.connections += 1
        self.worker.hand(index, sock)

    def kill(self) -> None:
        """End the worker by force, if there is one."""
        if self.worker is not None:
            logger.error("worker %d did not end in time", self.index)
            self.worker.kill()  # a thread is left behind

    def delay(self, now: float) -> float:
        """Return after how many seconds the next worker is to begin."""
        if now - self._since >= _LAST_DELAY:
            self._delay = _FIRST_DELAY
        self._since = math.inf
        delay, self._delay = self._delay, min(2 * self._delay, _LAST_DELAY)
        return delay

    # What the worker tells

    def ready(self) -> None:
        """It serves."""
        self._ready = True
        self._since = self._owner.loop.time()
        self._owner.ready()

    def leaves(self) -> None:
        """It takes no more connections, and has as long to end as all have at a shutdown."""
        self._leaves = True
        if self._limit is None:
            self._limit = self._owner.loop.call_later(self._owner.patience, self.kill)

    def taken(self) -> None:
        """It has taken all that was handed to it."""
        self._owner.accepting.resume()

    def untaken(self, connections: list[tuple[int, socket.socket]]) -> None:
        """It leaves or is gone, and has not got these of what was handed to it."""
        self._owner.accepting.take_back(connections)

    def released(self, count: int) -> None:
        """It does not serve so many connections any more."""
        self.connections -= count

    def shutdown(self) -> None:
        """The whole server is to end."""
        self._owner.shutdown()

    def ended(self, how: str, error: BaseException | None) -> None:
        """It is gone, and the connections that it has got are closed."""
        self.worker = None
        self.connections = 0
        self._ready = False
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        self._owner.ended(self, how, error)

    def is_ready(self) -> bool:
        """Return whether there is a worker that serves."""
        return self._ready


class Workers:
    """The parent of all."""

    def __init__(self, loops: int, balance: str, shutdown_timeout: float) -> None:
        self.loop: Any = asyncio.get_running_loop()
        self.patience = shutdown_timeout + _GRACE
        """Seconds in which a worker has to end."""
        self._places = [Place(self, index) for index in range(loops)]
        self._bound: list[Accepted] = []
        self.accepting = Accepting(self.loop, self._places, balance)
        self._apart = balance == RANDOM
        self._make: Callable[..., Process | Thread]
        self._serving = self.loop.create_future()  # all of them, for the first time
        self._up = False  # since then
        self._over = asyncio.Event()  # shutdown() was called
        self._ended = self.loop.create_future()  # after that, the last of them

    async def bind(self, addresses: list[Address]) -> list[Any]:
        """Return where they are bound."""
        for address in addresses:
            try:
                self._bound.append(await bind(self.loop, address, len(self._places), self._apart))
            except OSError as exc:
                exc.add_note(f"{address} can not be served")
                raise
        return [bound.name for bound in self._bound]

    async def run(self, make: Callable[..., Process | Thread], backlog: int) -> None:
        """Serve until `shutdown()`, with workers that are started by `make(index, sockets, place)`.

        Raises what keeps one of them from serving in the beginning.
        """
        self._make = make
        sockets = [(index, sock) for index, each in enumerate(self._bound) if each.accepts for sock in each.sockets]
        self.accepting.start(sockets, backlog)
        for place in self._places:
            if not self._serving.done():  # an earlier one has failed
                self._start(place)
        await self._serving
        self.accepting.resume()
        await self._over.wait()

    def shutdown(self) -> None:
        """Accept no more and have the workers end. Calling it again has no effect."""
        if self._over.is_set():
            return
        self._over.set()
        if not self._serving.done():
            self._serving.set_result(None)
        self._close()
        for place in self._places:
            if place.worker is not None:
                place.worker.drain()
        self._settle()

    async def end(self) -> None:
        """End all, those by force that take longer than is left to them."""
        task = asyncio.current_task()
        if self._over.is_set() and task is not None and task.cancelling():
            return  # an interrupt after shutdown(), which has come before the wait that it is to end
        self.shutdown()
        await asyncio.wait([self._ended], timeout=self.patience)

    def kill(self) -> None:
        """End what is left."""
        self._close()
        for place in self._places:
            place.kill()

    def _close(self) -> None:
        self.accepting.stop()
        for bound in self._bound:
            bound.close()
        self._bound.clear()

    def _start(self, place: Place) -> None:
        if self._over.is_set():
            return
        sockets: list[list[socket.socket]] = []
        try:
            sockets.extend(bound.for_worker(place.index) for bound in self._bound)
            place.begin(self._make(place.index, sockets, place))
        except Exception as exc:
            for sock in (sock for each in sockets for sock in each):
                sock.close()
            place.ended("it could not be started", exc)

    # What the places tell

    def ready(self) -> None:
        """A worker serves."""
        if not self._serving.done() and all(place.is_ready() for place in self._places):
            self._up = True
            self._serving.set_result(None)
            logger.info("%d loops serve %s", len(self._places), ", ".join(str(bound.name) for bound in self._bound))
        if self._up:  # not before all are ready: it is about their equal parts
            self.accepting.resume()

    def ended(self, place: Place, how: str, error: BaseException | None) -> None:
        """A worker is gone."""
        if self._over.is_set():
            self._settle()
        elif self._up:
            delay = place.delay(self.loop.time())
            logger.warning("worker %d: %s; the next one begins in %g s", place.index, how, delay, exc_info=error)
            self.loop.call_later(delay, self._start, place)
        elif not self._serving.done():
            self._serving.set_exception(error or RuntimeError(f"worker {place.index} did not serve: {how}"))

    def _settle(self) -> None:
        if not self._ended.done() and not any(place.worker for place in self._places):
            self._ended.set_result(None)


def serve_many(
    events: Events,
    addresses: list[Address],
    loops: int,
    balance: str,
    threads: bool,
    backlog: int,
    options: dict[str, Any],
) -> None:
    """Serve on many loops, in threads or in processes, until it is over; see `serve()`."""
    job = Job(events, addresses, [], options, backlog, loops, counted=balance == LEAST_CONNECTIONS)
    if not threads:
        need(CHILDREN and UNIX_SOCKETS, "processes to be handed connections")
        pickled(job)  # before there is anything to be closed

    workers: Workers | None = None

    async def main() -> None:
        nonlocal workers
        workers = Workers(loops, balance, options["shutdown_timeout"])
        loop = asyncio.get_running_loop()
        with on_sigterm(loop, workers.shutdown):
            try:
                job.names = await workers.bind(addresses)
                make: Callable[..., Thread | Process] = functools.partial(Thread, loop, job)
                if not threads:
                    make = functools.partial(Process, loop, pickled(job))
                await workers.run(make, backlog)
            finally:
                await workers.end()
                workers.kill()

    with asyncio.Runner(loop_factory=Loop) as runner:
        try:
            runner.run(main())
        finally:
            if workers is not None:
                workers.kill()  # at a second KeyboardInterrupt
