"""Handles: what asyncio promises of them, however they were made."""

import asyncio
import contextvars
import pickle
import weakref

import garbage
import pytest

from epoll_loop.core.handles import Handle
from epoll_loop.core.timers import TimerHandle

MAKERS = {
    "call_soon": lambda loop, *args, **kwargs: loop.call_soon(*args, **kwargs),
    "call_soon_threadsafe": lambda loop, *args, **kwargs: loop.call_soon_threadsafe(*args, **kwargs),
    "call_later": lambda loop, *args, **kwargs: loop.call_later(0, *args, **kwargs),
    "call_at": lambda loop, *args, **kwargs: loop.call_at(loop.time(), *args, **kwargs),
    "Handle": lambda loop, callback, *args, context=None: Handle(callback, args, loop, context),
    "TimerHandle": lambda loop, callback, *args, context=None: TimerHandle(1.0, callback, args, loop, context),
}
SCHEDULED = [name for name in MAKERS if name.startswith("call")]
TIMERS = ["call_later", "call_at", "TimerHandle"]


class Thing:
    """Something to be held, with weak references to see whether it is."""

    def method(self, *args):
        pass


@pytest.fixture(params=MAKERS)
def make(request, loop):
    loop.set_debug(False)  # in which a handle keeps what it called, to tell of it
    return lambda *args, **kwargs: MAKERS[request.param](loop, *args, **kwargs)


def test_is_an_asyncio_handle(make):
    assert isinstance(make(print), asyncio.Handle)


@pytest.mark.parametrize("maker", MAKERS)
def test_only_timers_are_timer_handles(loop, maker):
    assert isinstance(MAKERS[maker](loop, print), asyncio.TimerHandle) == (maker in TIMERS)


def test_cancel_is_remembered_and_can_be_repeated(make):
    handle = make(print)
    assert not handle.cancelled()
    handle.cancel()
    assert handle.cancelled()
    handle.cancel()
    assert handle.cancelled()


def test_cancel_lets_go_of_callback_and_arguments_at_once(make):
    callback, argument = Thing(), Thing()
    handle = make(callback.method, argument)
    seen = weakref.ref(callback), weakref.ref(argument)
    del callback, argument
    garbage.collect()
    assert seen[0]() is not None
    assert seen[1]() is not None
    handle.cancel()
    garbage.collect()
    assert seen[0]() is None
    assert seen[1]() is None


@pytest.mark.parametrize("maker", SCHEDULED)
def test_cancelled_handles_do_not_run(loop, maker):
    log = []
    handle = MAKERS[maker](loop, log.append, "cancelled")
    MAKERS[maker](loop, log.append, "not cancelled")
    handle.cancel()
    loop.call_later(0, loop.stop)
    loop.run_forever()
    assert log == ["not cancelled"]


@pytest.mark.parametrize("maker", SCHEDULED)
def test_a_callback_may_cancel_the_next_one_of_its_batch(loop, maker):
    log = []
    handles = []
    MAKERS[maker](loop, lambda: handles[0].cancel())
    handles.append(MAKERS[maker](loop, log.append, "cancelled"))
    loop.call_later(0, loop.stop)
    loop.run_forever()
    assert log == []


@pytest.mark.parametrize("maker", SCHEDULED)
def test_a_callback_may_cancel_itself(loop, maker):
    handles = []
    handles.append(MAKERS[maker](loop, lambda: handles[0].cancel()))
    loop.call_later(0, loop.stop)
    loop.run_forever()
    assert handles[0].cancelled()


@pytest.mark.parametrize("maker", SCHEDULED)
def test_runs_in_the_given_context(loop, maker):
    var = contextvars.ContextVar("var")
    context = contextvars.copy_context()
    context.run(var.set, "given")
    log = []
    handle = MAKERS[maker](loop, lambda: log.append(var.get()), context=context)
    assert handle.get_context() is context
    loop.call_later(0, loop.stop)
    loop.run_forever()
    assert log == ["given"]


@pytest.mark.parametrize("maker", SCHEDULED)
def test_runs_in_a_copy_of_the_current_context(loop, maker):
    var = contextvars.ContextVar("var", default="unset")
    log = []

    def callback():
        log.append(var.get())
        var.set("changed in the callback")

    token = var.set("at scheduling")
    MAKERS[maker](loop, callback)
    MAKERS[maker](loop, callback)
    var.reset(token)
    loop.call_later(0, loop.stop)
    loop.run_forever()
    assert log == ["at scheduling", "at scheduling"]
    assert var.get() == "unset"


def test_repr_names_the_callback_until_it_is_cancelled(make):
    handle = make(Thing().method, "argument")
    kind = "TimerHandle" if isinstance(handle, asyncio.TimerHandle) else "Handle"
    assert repr(handle).startswith(f"<{kind} ")
    assert "Thing.method(" in repr(handle)
    handle.cancel()
    assert "cancelled" in repr(handle)
    assert "Thing.method" not in repr(handle)


def test_takes_weak_references(make):
    handle = make(print)
    assert weakref.ref(handle)() is handle


@pytest.mark.parametrize("maker", SCHEDULED)
def test_a_weak_reference_does_not_come_back_as_another_handle(loop, maker):
    """Memory may be used again; who has kept a reference, of whichever kind, must not notice."""
    log = []
    seen = weakref.ref(MAKERS[maker](loop, log.append, "first"))
    loop.call_later(0, loop.stop)
    loop.run_forever()
    garbage.collect()
    others = [MAKERS[maker](loop, log.append, "other") for _ in range(10)]
    assert seen() is None
    assert len(others) == 10
    assert log == ["first"]


@pytest.mark.parametrize("maker", SCHEDULED)
def test_a_handle_that_is_kept_has_no_effect_on_later_ones(loop, maker):
    log = []
    kept = [MAKERS[maker](loop, log.append, "first") for _ in range(10)]
    loop.call_later(0, loop.stop)
    loop.run_forever()
    others = [MAKERS[maker](loop, log.append, "other") for _ in range(10)]
    for handle in kept:
        handle.cancel()
    assert not {id(handle) for handle in kept} & {id(handle) for handle in others}
    loop.call_later(0, loop.stop)
    loop.run_forever()
    assert log == ["first"] * 10 + ["other"] * 10


@pytest.mark.parametrize("maker", SCHEDULED)
def test_a_handle_that_has_run_lets_go_of_its_callback(loop, maker):
    callback = Thing()
    seen = weakref.ref(callback)
    MAKERS[maker](loop, callback.method, callback)
    del callback
    loop.call_later(0, loop.stop)
    loop.run_forever()
    garbage.collect()
    assert seen() is None


def test_is_not_pickled(make):
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(make(print))


class Recorded(BaseException):
    """Not an Exception: and still the business of the exception handler."""


@pytest.mark.parametrize("maker", SCHEDULED)
@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, GeneratorExit, Recorded])
def test_exceptions_go_to_the_exception_handler(loop, maker, error):
    def callback():
        raise error("broken")

    reports = []
    loop.set_exception_handler(lambda _, report: reports.append(report))
    handle = MAKERS[maker](loop, callback)
    loop.call_later(0, loop.stop)
    loop.run_forever()
    (report,) = reports
    assert report["message"].startswith("Exception in callback ")
    assert "callback" in report["message"]
    assert isinstance(report["exception"], error)
    assert report["handle"] is handle


@pytest.mark.parametrize("maker", SCHEDULED)
def test_the_exception_of_a_callback_that_has_cancelled_itself_is_reported(loop, maker):
    def callback():
        handle.cancel()
        raise LookupError

    reports = []
    loop.set_exception_handler(lambda _, report: reports.append(report["exception"]))
    handle = MAKERS[maker](loop, callback)
    loop.call_later(0, loop.stop)
    loop.run_forever()
    assert [type(report) for report in reports] == [LookupError]


@pytest.mark.parametrize("maker", SCHEDULED)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_keyboard_interrupt_and_system_exit_leave_the_loop(loop, maker, error):
    def callback():
        raise error

    reports = []
    loop.set_exception_handler(lambda _, report: reports.append(report))
    MAKERS[maker](loop, callback)
    loop.call_later(0, loop.stop)
    with pytest.raises(error):
        loop.run_forever()
    assert reports == []


def test_when_is_the_deadline(loop):
    assert loop.call_at(12345.5, print).when() == 12345.5
    before = loop.time()
    when = loop.call_later(100, print).when()
    assert before + 100 <= when <= loop.time() + 100
