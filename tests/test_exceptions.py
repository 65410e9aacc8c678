"""Exceptions that nobody catches: the handler, the log, and a loop that goes on.

Most of it is asyncio's promise, so asyncio's own loop has to pass the same tests: it proves them right.
"""

import asyncio
import contextvars
import logging
import sys

import garbage
import pytest

import epoll_loop

LOOPS = [asyncio.SelectorEventLoop, epoll_loop.new_event_loop]
# For what some versions of asyncio do not keep themselves.
OURS = pytest.mark.parametrize("loop", [epoll_loop.new_event_loop], ids=["epoll_loop"], indirect=True)


@pytest.fixture(params=LOOPS, ids=["asyncio", "epoll_loop"])
def loop(request):
    new = request.param()
    yield new
    if new.is_running():
        pytest.fail("still running")
    new.close()


@pytest.fixture
def reports(loop):
    """What the exception handler gets."""
    found = []
    loop.set_exception_handler(lambda _, report: found.append(report))
    return found


def turn(loop):
    """One iteration, without waiting."""
    loop.stop()
    loop.run_forever()


def test_the_exception_handler_is_kept(loop):
    def handler(loop, context):
        pass

    assert loop.get_exception_handler() is None
    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None
    with pytest.raises(TypeError, match="A callable object or None is expected"):
        loop.set_exception_handler("handler")


def test_the_exception_handler_gets_loop_and_context(loop):
    calls = []
    loop.set_exception_handler(lambda *args: calls.append(args))
    report = {"message": "text", "exception": LookupError()}
    loop.call_exception_handler(report)
    assert calls == [(loop, report)]


def test_the_default_is_a_log_record(loop, caplog):
    def callback():
        raise LookupError("broken")

    loop.call_soon(callback)
    turn(loop)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("asyncio", logging.ERROR)
    assert record.getMessage().startswith("Exception in callback ")
    assert isinstance(record.exc_info[1], LookupError)


def test_the_log_record_has_all_of_the_context(loop, caplog):
    loop.call_exception_handler({"message": "text", "one": 1, "two": [2], "future": None})
    (record,) = caplog.records
    assert record.getMessage() == "text\nfuture: None\none: 1\ntwo: [2]"
    caplog.clear()
    loop.call_exception_handler({})
    assert caplog.records[0].getMessage() == "Unhandled exception in event loop"


def test_an_exception_handler_that_fails_is_logged_and_the_loop_goes_on(loop, caplog):
    def handler(loop, context):
        raise ZeroDivisionError

    def callback():
        raise LookupError

    loop.set_exception_handler(handler)
    log = []
    loop.call_soon(callback)
    loop.call_soon(log.append, "goes on")
    turn(loop)
    assert log == ["goes on"]
    (record,) = caplog.records
    assert "Unhandled error in exception handler" in record.getMessage()
    assert isinstance(record.exc_info[1], ZeroDivisionError)


def test_a_repr_that_fails_does_not_end_the_loop(loop, caplog):
    class Broken:
        def __repr__(self):
            raise LookupError

    loop.call_exception_handler({"message": "text", "broken": Broken()})
    assert any("Exception in default exception handler" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exception_handler_may_leave_the_loop(loop, error):
    def handler(loop, context):
        raise error

    def callback():
        raise LookupError

    loop.set_exception_handler(handler)
    loop.call_soon(callback)
    with pytest.raises(error):
        loop.run_forever()
    turn(loop)


def test_a_task_exception_that_nobody_looks_at_is_reported(loop, reports):
    async def main():
        raise LookupError

    loop.create_task(main())
    turn(loop)
    turn(loop)
    garbage.collect()
    (report,) = reports
    assert report["message"] == "Task exception was never retrieved"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio runs it in the context from Python 3.12 on")
def test_the_exception_handler_runs_in_the_context_of_what_failed(loop):
    var = contextvars.ContextVar("var", default="outside")
    seen = []

    def callback():
        var.set("in the callback")
        raise LookupError

    loop.set_exception_handler(lambda *args: seen.append(var.get()))
    loop.call_soon(callback)
    turn(loop)
    assert seen == ["in the callback"]
