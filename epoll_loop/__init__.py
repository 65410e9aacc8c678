"""An asyncio event loop on edge-triggered epoll, in plain Python that also compiles."""

from epoll_loop._build import COMPILED
from epoll_loop.loop import Loop
from epoll_loop.net.tls import TLS_ENGINE
from epoll_loop.policy import EventLoopPolicy, install, new_event_loop, run

__all__ = ["COMPILED", "TLS_ENGINE", "EventLoopPolicy", "Loop", "install", "new_event_loop", "run"]
__version__ = "0.1.0"
