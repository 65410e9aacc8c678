"""An asyncio event loop on edge-triggered epoll, in plain Python that also compiles.

`epoll_loop.run(main())` runs a coroutine on it; `new_event_loop` is a loop factory, and `install()` sets a policy.
COMPILED, POLLER and TLS_ENGINE tell what runs.

(PYTEST_DONT_REWRITE: a package with a plugin for pytest is marked for it, with a warning if it is imported already.)
"""

from typing import TYPE_CHECKING, Any

from epoll_loop._build import COMPILED

if TYPE_CHECKING:
    from epoll_loop.core.backend import POLLER
    from epoll_loop.loop import Loop
    from epoll_loop.net.tls import TLS_ENGINE
    from epoll_loop.policy import EventLoopPolicy, install, new_event_loop, run
    from epoll_loop.serving.addresses import Address
    from epoll_loop.serving.datagrams import Peer
    from epoll_loop.serving.events import Answer, Events
    from epoll_loop.serving.framing import delimiter, length_prefix
    from epoll_loop.serving.run import serve, start_serving
    from epoll_loop.serving.server import Serving
    from epoll_loop.transports.conn import Action, Conn

__all__ = [
    "COMPILED",
    "POLLER",
    "TLS_ENGINE",
    "Action",
    "Address",
    "Answer",
    "Conn",
    "EventLoopPolicy",
    "Events",
    "Loop",
    "Peer",
    "Serving",
    "delimiter",
    "install",
    "length_prefix",
    "new_event_loop",
    "run",
    "serve",
    "start_serving",
]
__version__ = "0.1.0"

# Where the names are that are imported when somebody asks for one: pytest imports the package for its plugin in every
# environment that has it, and Python 3.16 has no policy to import.
_PLACES = {"Loop": "loop", "POLLER": "core.backend", "TLS_ENGINE": "net.tls"}
_PLACES |= dict.fromkeys(("EventLoopPolicy", "install", "new_event_loop", "run"), "policy")
_PLACES |= dict.fromkeys(("serve", "start_serving"), "serving.run")
_PLACES |= dict.fromkeys(("delimiter", "length_prefix"), "serving.framing")
_PLACES |= dict.fromkeys(("Answer", "Events"), "serving.events")
_PLACES |= {"Address": "serving.addresses", "Peer": "serving.datagrams", "Serving": "serving.server"}
_PLACES |= dict.fromkeys(("Action", "Conn"), "transports.conn")


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | _PLACES.keys())
