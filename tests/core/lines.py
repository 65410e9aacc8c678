"""Calls a function at each line of the core in turn: at every moment that another thread or a signal can choose."""

import itertools
import linecache
import sys

import pytest

import epoll_loop

pure_only = pytest.mark.skipif(epoll_loop.COMPILED, reason="a tracer sees no line of C")


def at_each_line(run, then, where=lambda frame: True):
    """Call a function at every line of the core that a run comes to: in the first run before the first line, in the
    second one before the second, and so on until no line is left. `run(call)` makes a run; `then(line)` checks it.
    """
    for number in itertools.count():
        call, loop_run = run()
        seen = itertools.count()
        found = []

        def trace(frame, event, arg, number=number, call=call, seen=seen, found=found):
            if not frame.f_globals.get("__name__", "").startswith("epoll_loop.core") or not where(frame):
                return None
            if event == "line" and next(seen) == number:
                found.append(linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip())
                sys.settrace(None)
                call()
            return trace

        sys.settrace(trace)
        try:
            loop_run()
        finally:
            sys.settrace(None)
        if not found:
            assert number > 5
            return
        then(found[0])
