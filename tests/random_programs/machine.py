"""The machine: a loop, one connection on it, and steps that hypothesis chooses. A failure prints the steps."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import garbage
import tls
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from random_programs.links import ROOM, make_room, open_link
from random_programs.transport import Boom, TransportEnd

# data_received() is buffer_updated() as well.
CALLBACKS = ["data_received", "get_buffer", "eof_received", "pause_writing", "resume_writing", "connection_lost"]
PLACES = ["now", "now", "now", "soon", "soon", "data_received", *CALLBACKS]
ENDINGS = ("write_eof", "close", "abort")
STUCK = 100  # turns after which two ends that are closing wait for each other

Operation = tuple[str, tuple[Any, ...]]  # the name of a method of an end, and its arguments

ends = st.integers(0, 1)
sizes = st.one_of(
    st.integers(0, 64), st.integers(1, 5000), st.integers(60_000, 70_000), st.integers(1, 400_000), st.just(262_144)
)
kinds = st.sampled_from(["bytes", "bytearray", "memoryview"])
buffers = st.one_of(st.none(), st.integers(100, 5000), st.sampled_from([65536, 262_144]))  # None: a Protocol
marks = st.one_of(st.none(), st.just(0), st.integers(0, 5000), st.integers(0, 300_000))


def operation(name: str, *args: st.SearchStrategy[Any]) -> st.SearchStrategy[Operation]:
    return st.tuples(st.just(name), st.tuples(*args))


@st.composite
def limits(draw: st.DrawFn) -> tuple[int | None, int | None]:
    high, low = draw(marks), draw(marks)
    if low is not None and (high is None or high < low):
        high, low = (low, high)
    return high, low


transfers = st.one_of(
    operation("write", sizes, kinds),
    operation("write", sizes, kinds),
    operation("writelines", st.lists(sizes, max_size=5), kinds),
    operation("pause"),
    operation("resume"),
    operation("read", st.sampled_from([1, 1000, 65536])),
    operation("receive", st.sampled_from([1, 1000, 65536])),
    operation("set_protocol", buffers),
    st.tuples(st.just("limits"), limits()),
    operation("drain"),
    operation("cancel"),
    operation("stop"),
)
endings = st.one_of(
    operation("write_eof"),
    operation("close"),
    operation("abort"),
    operation("boom", st.sampled_from(CALLBACKS)),
)
# An end ends most programs, so there are few of them.
operations = st.lists(st.one_of(transfers, transfers, transfers, endings), min_size=1, max_size=4)


class Program(RuleBasedStateMachine):
    """What happens to one connection."""

    kind: str
    new_loop: Callable[[], asyncio.AbstractEventLoop]
    exact: bool  # False for asyncio's own loop: see `model.py`
    patience = float(tls.LIMIT)

    def __init__(self) -> None:
        super().__init__()
        self.complaints: list[str] = []
        self.raised: list[Boom] = []
        self.reported: list[BaseException] = []
        self.ends: list[Any] = []
        self.descriptors = len(os.listdir("/proc/self/fd"))
        self.loop: Any = type(self).new_loop()
        self.loop.set_exception_handler(self.on_exception)

    def complain(self, complaint: str) -> None:
        """Note what is wrong: an exception in a callback would only get to the loop's handler."""
        self.complaints.append(complaint)

    def on_exception(self, loop: Any, context: dict[str, Any]) -> None:
        exc = context.get("exception")
        if isinstance(exc, Boom):
            self.reported.append(exc)
        elif self.exact or self.kind != "tls" or "_call_connection_lost" not in context["message"]:
            # asyncio's TLS closes in resume_writing(), and then its transport calls connection_lost() twice.
            self.complain(f"reported: {context['message']}: {exc!r}")

    # The rules

    @initialize(
        plain=st.booleans(),
        swapped=st.booleans(),
        keep_open=st.tuples(st.booleans(), st.booleans()),
        buffer_sizes=st.tuples(buffers, buffers),
        rooms=st.tuples(st.sampled_from(sorted(ROOM)), st.sampled_from(sorted(ROOM))),
        first_marks=st.sampled_from([(None, None), (None, None), (0, 0), (100, 100)]),
        last_words=st.tuples(ends, sizes, st.sampled_from(["write_eof", "close", "boom"])),
    )
    def connect(
        self,
        plain: bool,
        swapped: bool,
        keep_open: tuple[bool, bool],
        buffer_sizes: tuple[int | None, int | None],
        rooms: tuple[str, str],
        first_marks: tuple[int | None, int | None],
        last_words: tuple[int, int, str],
    ) -> None:
        self.last_words = last_words
        near, far = (
            lambda i=i: TransportEnd(self, i, keep_open[i] and self.kind in ("tcp", "unix"), buffer_sizes[i])
            for i in (0, 1)
        )
        self.ends = self.loop.run_until_complete(open_link(self, plain, swapped, near, far))
        for end, room in zip(self.ends, rooms, strict=True):
            end.other = self.ends[not end.number]
            make_room(end, ROOM[room])
            end.limits(*first_marks)
        self.after_run()

    @rule(end=ends, place=st.sampled_from(PLACES), operations=operations)
    def do(self, end: int, place: str, operations: list[Operation]) -> None:
        """Let the program do something, from outside of the loop or in a callback."""
        self.do_at(self.ends[end], place, operations)

    @rule(end=ends, times=st.integers(1, 4), size=sizes)
    def send(self, end: int, times: int, size: int) -> None:
        """Write in several turns of the loop."""
        for _ in range(times):
            self.perform(self.ends[end], [("write", (size, "bytes"))])
            self.run(1)

    @rule(end=ends, size=sizes, turns=st.integers(1, 3))
    def hold_back(self, end: int, size: int, turns: int) -> None:
        """Let one end write while the other does not read, and then read on."""
        self.perform(self.ends[end], [("pause", ())])
        self.perform(self.ends[not end], [("writelines", ([size, 100, 100], "bytes"))])
        self.run(turns)
        self.perform(self.ends[end], [("resume", ())])

    @rule(end=ends, place=st.sampled_from(["soon", "data_received"]))
    def interrupt(self, end: int, place: str) -> None:
        """Have a KeyboardInterrupt leave the loop, which goes on where it was when it runs again."""
        if self.exact or self.kind != "tls":  # asyncio forgets what it has decrypted meanwhile
            self.do_at(self.ends[end], place, [("interrupt", ())])

    @rule(turns=st.integers(1, 5))
    def run(self, turns: int) -> None:
        """Run the loop for some turns."""
        for _ in range(turns):
            self.loop.call_soon(self.loop.stop)
            with contextlib.suppress(KeyboardInterrupt):
                self.loop.run_forever()
            self.after_run()

    @rule()
    def complete(self) -> None:
        """Run the loop until a coroutine has returned."""
        self.sleep(0)
        self.after_run()

    @rule()
    def settle(self) -> None:
        """Let both ends read, until all has arrived that can."""
        for end in self.ends:
            end.resume()
        self.run_until(self.arrived, "something does not arrive")
        self.run(3)  # so that who was blocked can be told
        for end in self.ends:
            end.look_when_quiet()
        self.raise_complaints()

    # What they do

    def do_at(self, end: Any, place: str, operations: list[Operation]) -> None:
        def perform() -> None:
            self.perform(end, operations)

        if place == "now":
            perform()
            self.raise_complaints()
        elif place == "soon" or not end.is_transport:
            self.loop.call_soon(perform)
        elif place == "get_buffer" and not self.exact:
            pass  # asyncio goes on with what it had before the call
        elif place == "resume_writing" and not self.exact and any(name in ENDINGS for name, _ in operations):
            pass  # asyncio calls connection_lost() twice
        else:
            end.hooks.setdefault(place, []).append(perform)

    def perform(self, end: Any, operations: list[Operation]) -> None:
        for name, args in operations:
            if name == "stop":
                self.loop.stop()
            elif name == "interrupt":
                raise KeyboardInterrupt
            elif hasattr(end, name):
                getattr(end, name)(*args)

    def sleep(self, seconds: float) -> None:
        task = self.loop.create_task(asyncio.sleep(seconds))
        while not task.done():  # the program may stop the loop before
            with contextlib.suppress(RuntimeError, KeyboardInterrupt):
                self.loop.run_until_complete(task)

    def after_run(self) -> None:
        for end in self.ends:
            end.look_after_run()
        self.raise_complaints()

    def raise_complaints(self) -> None:
        if self.complaints:
            complaints, self.complaints = self.complaints, []
            raise AssertionError("; ".join(complaints))

    def run_until(self, condition: Callable[[], bool], complaint: str) -> None:
        """Run the loop, with what is plain reading all that comes."""
        turns, progress = 0, -1
        limit = 0.0
        while not condition():
            self.run(1)
            for end in self.ends:
                if not end.is_transport:
                    end.resume()
            now = sum(end.got + end.lost for end in self.ends)
            if now != progress:
                turns, progress, limit = 0, now, time.monotonic() + self.patience
            turns += 1
            if turns > STUCK:
                self.sleep(0.001)
                if time.monotonic() > limit:
                    type(self).patience = 0.5  # for the attempts to find a smaller program
                    raise AssertionError(f"{complaint}: {self.ends}")

    def arrived(self) -> bool:
        """Whether all is read that can be, and who has to hear of an end has heard."""
        return all(
            end.deaf()
            or not end.reads
            or end.paused_for_good()
            or (end.got >= end.other.due and not end.other.will_end())
            for end in self.ends
        )

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None and self.ends:
                self.finish()
        finally:
            self.clean_up()
        if garbage.COUNTED and sys.exc_info()[0] is None:
            now = len(os.listdir("/proc/self/fd"))
            assert now == self.descriptors, f"{now} descriptors are open, {self.descriptors} were before"

    def finish(self) -> None:
        """End the program: what was written arrives, both ends close, and that was all."""
        for end in self.ends:
            if end.is_transport:
                end.hooks.clear()
                end.booms.clear()
        self.settle()
        last, size, ending = self.last_words
        writer = self.ends[last]
        if ending == "boom":
            self.perform(writer.other, [("boom", ("data_received",))])
            self.perform(writer, [("write", (size, "bytes"))])
        else:
            self.perform(writer, [("write", (size, "bytes")), (ending, ())])
        self.settle()
        for end in self.ends:
            self.perform(end, [("pause", ()), ("resume", ())])  # of an end that was told of it is told once
            end.cancel_all()
        self.run(2)
        for end in self.ends:
            end.close()
        looks = 0

        def over() -> bool:
            nonlocal looks
            looks += 1
            if looks == STUCK:  # each may be waiting for the other to read
                for end in self.ends:
                    end.abort()
            return all(end.lost for end in self.ends)

        self.run_until(over, "no connection_lost()")
        self.run(2)
        for end in self.ends:
            end.look_at_end()
        self.raise_complaints()
        assert self.reported == self.raised

    def clean_up(self) -> None:
        loop, self.loop = self.loop, None
        for end in self.ends:
            end.let_go()
        for _ in range(10):
            loop.call_soon(loop.stop)
            with contextlib.suppress(KeyboardInterrupt):
                loop.run_forever()
        loop.close()
        self.ends.clear()
