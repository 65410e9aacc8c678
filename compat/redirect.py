"""What makes CPython's tests of asyncio run on a contestant's loop.

- The default policy's loop factory, which outlives a test that sets the policy to None.
- The classes by which the tests ask for "a loop" where they do not mean the policy's: `asyncio.SelectorEventLoop`, and
  in some modules those that it is built of.
- `TestCase.new_test_loop()`, where the test does not bring a clock of its own.
- What a test replaces by a mock in asyncio's modules: ours see it too.

All of the loops are of a subclass that counts: a test that made no loop of the contestant proves nothing about it, nor
does one that made a simulated one.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import Any

from compat.contestants import loop_class

# Some modules have a class for each selector; the first one is always there. A single class takes their place.
_PER_SELECTOR = ("SelectEventLoopTests", "PollEventLoopTests", "EPollEventLoopTests", "KqueueEventLoopTests")
# Which of the classes that the SelectorEventLoop is built of a test module makes loops of. They give them a mock for a
# selector, which asyncio's SelectorEventLoop could not live with, and ours never looks at.
_BASES = {
    "test_base_events": ("base_events.BaseEventLoop", "selector_events.BaseSelectorEventLoop"),
    "test_pep492": ("BaseEventLoop",),
    "test_runners": ("BaseEventLoop",),
}
# Their tests look at what asyncio's own transports have asked of the simulated loop.
_SIMULATED = ("test_proactor_events", "test_selector_events", "test_unix_events")
# What of asyncio's modules the tests replace, and where our modules use the same.
_SHARED = (
    ("Future", ("futures",), "epoll_loop.core."),
    ("Task", ("tasks",), "epoll_loop.core."),
    ("logger", ("base_events", "unix_events"), "epoll_loop."),
    ("signal", ("unix_events",), "epoll_loop.process.signals"),
    ("socket", ("base_events", "unix_events"), "epoll_loop.net."),
)


class Made:
    """How many loops there have been in this process: of the contestant, and simulated ones."""

    count = 0
    simulated = 0


def _counting(base: type) -> type:
    """Return a loop class whose loops are counted."""

    class Counted(base):  # type: ignore[misc]
        _default_executor = None  # what the tests ask each loop for when they close it, uvloop's too

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            Made.count += 1
            super().__init__(*args, **kwargs)

    if not hasattr(base, "_run_once"):  # it is C in the compiled build

        def run_once(self: Any) -> None:
            self.call_soon(self.stop)
            self.run_forever()

        Counted._run_once = run_once  # type: ignore[attr-defined]
    return Counted


def _new_test_loop(loop: type, simulated: Any) -> Any:
    """Return a `TestCase.new_test_loop()` for which a simulated loop is one that gets a simulated clock."""

    def new_test_loop(self: Any, gen: Any = None) -> Any:
        if gen is not None:
            Made.simulated += 1
            return simulated(self, gen)
        made = loop()
        self.set_event_loop(made)
        return made

    return new_test_loop


class _Shared:
    """What a name means in asyncio's modules at the moment: a test's mock in one of them, or else the real thing."""

    def __init__(self, name: str, modules: list[Any]) -> None:
        self._name = name
        self._modules = modules
        self._real = getattr(modules[0], name)

    def _now(self) -> Any:
        found = [getattr(module, self._name) for module in self._modules]
        return next((one for one in found if one is not self._real), self._real)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._now(), attribute)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._now()(*args, **kwargs)


def load(contestant: str, name: str) -> Any:
    """Return a module of `test.test_asyncio`, with its tests redirected to the contestant's loop."""
    base = loop_class(contestant)
    loop = _counting(base)
    asyncio.DefaultEventLoopPolicy._loop_factory = loop  # type: ignore[attr-defined]
    for alias in ("SelectorEventLoop", "EventLoop"):
        if hasattr(asyncio, alias):
            setattr(asyncio, alias, loop)
    utils = importlib.import_module("test.test_asyncio.utils")
    if name not in _SIMULATED:
        utils.TestCase.new_test_loop = _new_test_loop(loop, utils.TestCase.new_test_loop)
    for path in _BASES.get(name, ()):
        place, _, alias = f"asyncio.{path}".rpartition(".")
        bare = getattr(sys.modules[place], alias)
        setattr(sys.modules[place], alias, _counting(bare) if contestant == "asyncio" else loop)
    if name == "test_tasks":
        asyncio.base_events.BaseEventLoop = loop  # type: ignore[misc]  # one of its tests patches a method there
    for what, places, ours in _SHARED:
        shared = _Shared(what, [sys.modules[f"asyncio.{place}"] for place in places])
        for key, module in list(sys.modules.items()):
            if key.startswith(ours) and hasattr(module, what):
                setattr(module, what, shared)

    module = importlib.import_module(f"test.test_asyncio.{name}")
    if hasattr(module, _PER_SELECTOR[0]):

        class LoopTests(getattr(module, _PER_SELECTOR[0])):  # type: ignore[misc]
            def create_event_loop(self) -> Any:
                return loop()

        module.LoopTests = LoopTests  # type: ignore[attr-defined]
        for replaced in _PER_SELECTOR:
            if hasattr(module, replaced):
                delattr(module, replaced)
    return module
