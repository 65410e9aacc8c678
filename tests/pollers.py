"""Which back end the tests run on: `EPOLL_LOOP_POLLER` chooses."""

import pytest

from epoll_loop.core.backend import POLLER

EDGES = POLLER in ("epoll", "kqueue")  # the others say it again
epoll_only = pytest.mark.skipif(POLLER != "epoll", reason=f"what epoll does, and this is {POLLER}")
