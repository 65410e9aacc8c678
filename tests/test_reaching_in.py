"""What programs and test tools do to a loop besides calling it: they assign and patch its attributes.

asyncio's own loop has to pass the same tests: they ask for what holds there.
"""

import asyncio
import socket
import weakref
from unittest import mock

import pytest

import epoll_loop

LOOPS = {"asyncio": asyncio.SelectorEventLoop, "epoll_loop": epoll_loop.new_event_loop}


@pytest.fixture(params=LOOPS)
def loop(request):
    new = LOOPS[request.param]()
    yield new
    new.close()


METHODS = sorted(name for name in dir(asyncio.AbstractEventLoop) if not name.startswith("_"))


@pytest.mark.parametrize("name", METHODS)
def test_any_method_can_be_assigned_and_comes_back(loop, name):
    before = getattr(loop, name)
    patched = mock.Mock(return_value="patched")
    setattr(loop, name, patched)
    assert getattr(loop, name)(1, two=2) == "patched"
    patched.assert_called_once_with(1, two=2)
    delattr(loop, name)
    assert getattr(loop, name) == before


@pytest.mark.parametrize("name", METHODS)
def test_any_method_can_be_patched(loop, name):
    before = getattr(loop, name)
    with mock.patch.object(loop, name) as patched:
        assert getattr(loop, name) is patched
    assert getattr(loop, name) == before


def test_any_attribute_can_be_set(loop):
    loop._something = "of somebody else"
    loop.slow_callback_duration = 7
    assert loop._something == "of somebody else"
    assert loop.slow_callback_duration == 7
    assert vars(loop)["_something"] == "of somebody else"
    del loop._something
    assert not hasattr(loop, "_something")


def test_weak_references(loop):
    class Owner:
        pass

    owners = weakref.WeakKeyDictionary({loop: Owner()})
    assert weakref.ref(loop)() is loop
    assert loop in owners
    assert len({loop, loop}) == 1


def test_tasks_and_futures_call_what_was_assigned_to_call_soon(loop):
    usual, calls = loop.call_soon, []

    def call_soon(callback, *args, context=None):
        calls.append(callback)
        return usual(callback, *args, context=context)

    async def main():
        await asyncio.sleep(0)
        future = loop.create_future()
        future.add_done_callback(calls.append)
        future.set_result(None)
        await future

    loop.call_soon = call_soon
    loop.run_until_complete(main())
    del loop.call_soon
    assert len(calls) >= 4
    seen = len(calls)
    loop.run_until_complete(main())
    assert len(calls) == seen + 1  # of main() itself


def test_asyncio_calls_what_was_assigned(loop):
    async def main():
        with (
            mock.patch.object(loop, "call_later", wraps=loop.call_later) as call_later,
            mock.patch.object(loop, "call_at", wraps=loop.call_at) as call_at,
            mock.patch.object(loop, "create_task", wraps=loop.create_task) as create_task,
            mock.patch.object(loop, "run_in_executor", wraps=loop.run_in_executor) as run_in_executor,
            mock.patch.object(loop, "create_server", wraps=loop.create_server) as create_server,
            mock.patch.object(loop, "create_connection", wraps=loop.create_connection) as create_connection,
        ):
            await asyncio.sleep(0.001)
            call_later.assert_called_once()
            async with asyncio.timeout(1000):
                call_at.assert_called()
            await asyncio.create_task(asyncio.sleep(0))
            create_task.assert_called_once()
            assert await asyncio.to_thread(int, 7) == 7
            run_in_executor.assert_called_once()
            server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
            create_server.assert_called_once()
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            create_connection.assert_called_once()
            assert await reader.read() == b""
            writer.close()
            server.close()
            await server.wait_closed()

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())


def test_names_are_looked_up_by_what_was_assigned(loop):
    """How tests keep a program from asking the real DNS."""

    async def main():
        accepted = loop.create_future()
        server = await asyncio.start_server(lambda _, writer: accepted.set_result(writer), "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        found = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)]
        with mock.patch.object(loop, "getaddrinfo", return_value=found, new_callable=mock.AsyncMock) as lookup:
            _, writer = await asyncio.open_connection("no.such.host.invalid", 80)
        assert lookup.call_args.args[:2] == ("no.such.host.invalid", 80)
        assert writer.get_extra_info("peername") == address
        for each in (writer, await accepted):
            each.close()
            await each.wait_closed()
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())


@pytest.mark.parametrize("name", ["call_exception_handler", "default_exception_handler"])
def test_exceptions_go_to_what_was_assigned(loop, name):
    with mock.patch.object(loop, name) as handler:
        loop.call_soon(lambda: 1 / 0)
        loop.stop()
        loop.run_forever()
    (context,) = handler.call_args.args
    assert isinstance(context["exception"], ZeroDivisionError)


def test_a_done_future_stops_the_loop_by_what_was_assigned(loop):
    with mock.patch.object(loop, "stop", wraps=loop.stop) as stop:
        loop.run_until_complete(asyncio.sleep(0))
    stop.assert_called_once_with()


@pytest.mark.parametrize("kind", [asyncio.SelectorEventLoop, epoll_loop.Loop])
def test_a_subclass_has_its_say(kind):
    log = []

    class Loop(kind):
        def call_soon(self, callback, *args, context=None):
            log.append("call_soon")
            return super().call_soon(callback, *args, context=context)

        def create_task(self, coro, **kwargs):
            log.append("create_task")
            return super().create_task(coro, **kwargs)

        def call_exception_handler(self, context):
            log.append(context["exception"])

        def close(self):
            log.append("close")
            super().close()

    with asyncio.Runner(loop_factory=Loop) as runner:
        assert runner.run(asyncio.sleep(0, "result")) == "result"
        runner.get_loop().call_soon(lambda: 1 / 0)
        runner.run(asyncio.sleep(0))
    assert {"call_soon", "create_task", "close"} <= set(map(str, log))
    assert [type(entry) for entry in log if not isinstance(entry, str)] == [ZeroDivisionError]
