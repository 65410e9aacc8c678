"""The ways onto the loop: factory, run(), policy; only the policy warns where Python has deprecated it."""

import asyncio
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import epoll_loop

ROOT = Path(epoll_loop.__file__).parent.parent
POLICY_DEPRECATED = sys.version_info >= (3, 14)
has_policies = pytest.mark.skipif(sys.version_info >= (3, 16), reason="no policies on this Python")


def python(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter: policies are global."""
    return subprocess.run(
        [sys.executable, *options, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def output(code: str, *options: str) -> str:
    done = python(code, *options)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_new_event_loop_is_new() -> None:
    first, second = epoll_loop.new_event_loop(), epoll_loop.new_event_loop()
    assert type(first) is epoll_loop.Loop
    assert first is not second
    first.close()
    second.close()


MAIN = """
import asyncio, epoll_loop
async def main():
    loop = asyncio.get_running_loop()
    return type(loop) is epoll_loop.Loop, loop.get_debug()
"""


@pytest.mark.parametrize(
    "way",
    [
        "print(epoll_loop.run(main()))",
        "with asyncio.Runner(loop_factory=epoll_loop.new_event_loop) as runner: print(runner.run(main()))",
        "loop = epoll_loop.new_event_loop(); print(loop.run_until_complete(main())); loop.close()",
    ],
)
def test_loop_factory_ways_do_not_warn(way: str) -> None:
    assert output(MAIN + way, "-W", "error") == "(True, False)"


def test_run_in_debug_mode() -> None:
    assert output(MAIN + "print(epoll_loop.run(main(), debug=True))", "-W", "error") == "(True, True)"


def test_run_with_another_loop() -> None:
    code = MAIN + "print(epoll_loop.run(main(), loop_factory=asyncio.SelectorEventLoop))"
    assert output(code, "-W", "error") == "(False, False)"


def test_run_raises_what_main_raises() -> None:
    done = python("import epoll_loop\nasync def main(): 1 / 0\nepoll_loop.run(main())")
    assert done.returncode == 1
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


async def test_run_in_a_running_loop_is_refused() -> None:
    async def main() -> None:
        raise AssertionError("not reached")

    coro = main()
    with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
        epoll_loop.run(coro)
    coro.close()


@pytest.mark.skipif(POLICY_DEPRECATED, reason="policies warn on this Python")
@pytest.mark.parametrize(
    "way", ["epoll_loop.install()", "asyncio.set_event_loop_policy(epoll_loop.EventLoopPolicy())"]
)
def test_policy_is_silent(way: str) -> None:
    assert output(f"{MAIN}{way}\nprint(asyncio.run(main()))", "-W", "error") == "(True, False)"


@has_policies
@pytest.mark.skipif(not POLICY_DEPRECATED, reason="policies do not warn on this Python")
@pytest.mark.parametrize(
    ("way", "text"),
    [
        ("epoll_loop.install()", "epoll_loop.run()"),
        ("asyncio.set_event_loop_policy(epoll_loop.EventLoopPolicy())", "set_event_loop_policy"),
    ],
)
def test_policy_works_and_warns_its_caller_once(way: str, text: str) -> None:
    done = python(f"{MAIN}{way}\nprint(asyncio.run(main()))", "-W", "always")
    assert done.stdout == "(True, False)\n"
    assert done.returncode == 0
    assert done.stderr.count("DeprecationWarning") == 1
    assert done.stderr.startswith("<string>:")  # the line that called, not one of ours
    assert text in done.stderr


@has_policies
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_policy_is_the_default_one_with_this_loop() -> None:
    policy = epoll_loop.EventLoopPolicy()
    assert isinstance(policy, asyncio.DefaultEventLoopPolicy)
    loop = policy.new_event_loop()
    assert type(loop) is epoll_loop.Loop
    policy.set_event_loop(loop)
    assert policy.get_event_loop() is loop
    policy.set_event_loop(None)
    loop.close()


@has_policies
def test_policy_class_is_made_once() -> None:
    from epoll_loop import policy

    assert policy.EventLoopPolicy is epoll_loop.EventLoopPolicy
    assert pickle.loads(pickle.dumps(epoll_loop.EventLoopPolicy)) is epoll_loop.EventLoopPolicy


def test_unknown_name() -> None:
    from epoll_loop import policy

    with pytest.raises(AttributeError, match="no_such_name"):
        policy.no_such_name  # noqa: B018


def test_without_policies_the_names_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from epoll_loop import policy

    monkeypatch.setattr(policy, "HAS_POLICIES", False)
    monkeypatch.delitem(vars(policy), "EventLoopPolicy", raising=False)
    with pytest.raises(AttributeError, match=r"epoll_loop\.run\(\)"):
        policy.EventLoopPolicy  # noqa: B018
    with pytest.raises(RuntimeError, match=r"epoll_loop\.run\(\)"):
        policy.install()


def test_the_package_without_policies() -> None:
    code = f"import asyncio, sys\nsys.version_info = (3, 16, 0)\n{MAIN}\nprint(epoll_loop.run(main()))"
    assert output(code, "-W", "error") == "(True, False)"


def test_the_names_of_the_package() -> None:
    assert output("import epoll_loop; print(set(epoll_loop.__all__) - set(dir(epoll_loop)))") == "set()"
    assert output("from epoll_loop import *; run(__import__('asyncio').sleep(0)); print(Loop, COMPILED, TLS_ENGINE)")
    with pytest.raises(AttributeError, match="no_such_name"):
        epoll_loop.no_such_name  # noqa: B018


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="no child watchers on this Python")
def test_child_watcher() -> None:
    code = """
import asyncio, epoll_loop, warnings
warnings.simplefilter("ignore", DeprecationWarning)
epoll_loop.install()
async def main():
    return asyncio.get_child_watcher().is_active()
print(asyncio.run(main()))
"""
    assert output(code) == "True"


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="get_event_loop() makes no loop on this Python")
def test_get_event_loop_makes_our_loop() -> None:
    code = "import asyncio, epoll_loop; epoll_loop.install(); print(type(asyncio.get_event_loop()).__name__)"
    assert output(code) == "Loop"
