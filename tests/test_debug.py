"""Debug mode: slow callbacks, the wrong thread, the wrong callback, and where a handle was made."""

import asyncio
import logging
import socket
import subprocess
import sys
import threading

import pytest

import epoll_loop


@pytest.fixture(params=[asyncio.SelectorEventLoop, epoll_loop.new_event_loop], ids=["asyncio", "epoll_loop"])
def loop(request):
    """In debug mode, and asyncio's own as well: it proves the tests right."""
    new = request.param()
    new.set_debug(True)
    yield new
    new.close()


OURS = pytest.mark.parametrize("loop", [epoll_loop.new_event_loop], ids=["epoll_loop"], indirect=True)


def turn(loop, times=1):
    for _ in range(times):
        loop.stop()
        loop.run_forever()


def slow_reports(caplog):
    found = [record for record in caplog.records if record.getMessage().startswith("Executing ")]
    assert all(record.name == "asyncio" and record.levelno == logging.WARNING for record in found)
    return [record.getMessage() for record in found]


def a_slow_callback(*args):
    pass


def test_a_slow_callback_is_reported_with_its_name_and_time(loop, caplog):
    loop.slow_callback_duration = 0
    loop.call_soon(a_slow_callback)
    turn(loop)
    (message,) = [text for text in slow_reports(caplog) if "a_slow_callback" in text]
    assert message.startswith("Executing <Handle ")
    assert " took 0." in message
    assert message.endswith(" seconds")


def test_a_slow_timer_is_reported(loop, caplog):
    loop.slow_callback_duration = 0
    loop.call_at(0, a_slow_callback)
    turn(loop)
    assert any("a_slow_callback" in text for text in slow_reports(caplog))


def test_a_slow_step_of_a_task_is_reported_as_the_task(loop, caplog):
    async def main():
        pass

    task = loop.create_task(main(), name="the slow one")
    loop.slow_callback_duration = 0
    loop.run_until_complete(task)
    assert any(text.startswith("Executing <Task ") and "the slow one" in text for text in slow_reports(caplog))


def test_a_slow_reader_is_reported_with_its_callback(loop, caplog):
    ours, peer = socket.socketpair()
    with ours, peer:
        loop.add_reader(ours, a_slow_callback)
        peer.send(b"x")
        loop.slow_callback_duration = 0
        turn(loop, 2)
        loop.remove_reader(ours)
    assert any("a_slow_callback" in text for text in slow_reports(caplog))


@OURS
def test_a_slow_protocol_is_reported_with_its_transport(loop, caplog):
    ours, peer = socket.socketpair()
    transport, _ = loop.run_until_complete(loop.create_unix_connection(SlowProtocol, sock=ours))
    with peer:
        peer.send(b"x")
        loop.slow_callback_duration = 0
        turn(loop)
        assert any("Transport" in text for text in slow_reports(caplog))
        transport.abort()
        turn(loop)


class SlowProtocol(asyncio.Protocol):
    pass


def test_quick_callbacks_are_not_reported(loop, caplog):
    loop.slow_callback_duration = 1000
    loop.call_soon(a_slow_callback)
    turn(loop)
    assert slow_reports(caplog) == []


def test_nothing_is_reported_without_debug_mode(loop, caplog):
    loop.set_debug(False)
    loop.slow_callback_duration = 0
    loop.call_soon(a_slow_callback)
    turn(loop)
    assert slow_reports(caplog) == []


def test_the_default_is_a_tenth_of_a_second(loop):
    assert loop.slow_callback_duration == 0.1


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at"])
def test_the_wrong_thread_is_refused(loop, method):
    errors = []

    def from_a_thread():
        arguments = () if method == "call_soon" else (1,)
        try:
            getattr(loop, method)(*arguments, print)
        except RuntimeError as exc:
            errors.append(str(exc))

    def start():
        thread = threading.Thread(target=from_a_thread)
        thread.start()
        thread.join()

    loop.call_soon(start)
    turn(loop)
    assert errors == ["Non-thread-safe operation invoked on an event loop other than the current one"]
    errors.clear()
    loop.set_debug(False)
    loop.call_soon(start)
    turn(loop)
    assert errors == []


def test_the_right_thread_is_not(loop):
    log = []
    loop.call_soon(lambda: loop.call_soon(log.append, "own"))
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(log.append, "other"))
    thread.start()
    thread.join()
    turn(loop, 2)
    assert sorted(log) == ["other", "own"]


async def coroutine_function():
    pass


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_the_wrong_callback_is_refused(loop, method):
    arguments = (1,) if method in ("call_later", "call_at") else ()
    schedule = getattr(loop, method)
    with pytest.raises(TypeError, match="coroutines cannot be used with "):
        schedule(*arguments, coroutine_function)
    coro = coroutine_function()
    with pytest.raises(TypeError, match="coroutines cannot be used with "):
        schedule(*arguments, coro)
    coro.close()
    with pytest.raises(TypeError, match="a callable object was expected by "):
        schedule(*arguments, "name")


def test_a_coroutine_function_is_no_work_for_the_executor(loop):
    with pytest.raises(TypeError, match="coroutines cannot be used with run_in_executor"):
        loop.run_in_executor(None, coroutine_function)


def test_repr_says_where_the_handle_was_made_and_what_was_cancelled(loop):
    handle = loop.call_soon(a_slow_callback)
    assert f"created at {__file__}:" in repr(handle)
    handle.cancel()
    assert "cancelled" in repr(handle)
    assert "a_slow_callback" in repr(handle)


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_reports_say_where_the_handle_was_made(loop, method):
    def fail():
        raise LookupError

    reports = []
    loop.set_exception_handler(lambda _, report: reports.append(report))
    getattr(loop, method)(*(0,) if method in ("call_later", "call_at") else (), fail)
    turn(loop)
    frame = reports[0]["source_traceback"][-1]
    assert frame.filename == __file__
    assert frame.name == "test_reports_say_where_the_handle_was_made"


def test_the_log_has_the_place_too(loop, caplog):
    def fail():
        raise LookupError

    loop.call_soon(fail)
    turn(loop)
    (record,) = [record for record in caplog.records if "Exception in callback" in record.getMessage()]
    assert "Object created at (most recent call last):" in record.getMessage()
    assert __file__ in record.getMessage()


def test_coroutines_remember_where_they_were_made(loop):
    async def main():
        coro = coroutine_function()
        origin = coro.cr_origin
        coro.close()
        return origin

    assert loop.run_until_complete(main())
    loop.set_debug(False)
    assert loop.run_until_complete(main()) is None


def test_switched_on_while_it_runs(loop):
    async def main(enabled):
        loop.set_debug(enabled)
        await asyncio.sleep(0)
        return sys.get_coroutine_origin_tracking_depth()

    assert loop.run_until_complete(main(False)) == 0
    assert loop.run_until_complete(main(True)) > 0
    assert sys.get_coroutine_origin_tracking_depth() == 0


@OURS
def test_set_debug_returns_what_was_set(loop):
    assert loop.get_debug() is True
    loop.set_debug(False)
    assert loop.get_debug() is False


def test_exceptions_leave_the_loop_in_debug_mode_as_well(loop):
    def leave():
        raise KeyboardInterrupt

    log = []
    loop.call_soon(leave)
    loop.call_soon(log.append, "rest")
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    turn(loop)
    assert log == ["rest"]


PROGRAM = "import epoll_loop; loop = epoll_loop.new_event_loop(); print(loop.get_debug()); loop.close()"


@pytest.mark.parametrize(
    ("options", "variables", "expected"),
    [
        ([], {}, "False"),
        ([], {"PYTHONASYNCIODEBUG": "1"}, "True"),
        ([], {"PYTHONASYNCIODEBUG": ""}, "False"),
        (["-X", "dev"], {}, "True"),
    ],
)
def test_switched_on_from_outside(monkeypatch, options, variables, expected):
    monkeypatch.delenv("PYTHONASYNCIODEBUG", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, *options, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout.split() == [expected]


def test_run_takes_debug():
    async def main():
        return asyncio.get_running_loop().get_debug()

    assert epoll_loop.run(main(), debug=True) is True
    assert epoll_loop.run(main(), debug=False) is False
