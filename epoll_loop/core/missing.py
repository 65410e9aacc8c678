"""What a platform may lack, and the sentence that says so: Windows and WASI have sockets, and little else of Unix."""

from __future__ import annotations

import os
import signal
import socket

UNIX_SOCKETS = hasattr(socket, "AF_UNIX")
PIPES = hasattr(os, "O_NONBLOCK")  # of which a read does not wait
CHILDREN = PIPES and hasattr(os, "WNOHANG")
SIGNALS = PIPES and hasattr(signal, "siginterrupt")


def need(there: bool, what: str) -> None:
    """NotImplementedError, as asyncio has it, unless it is there."""
    if not there:
        raise NotImplementedError(f"this platform has no {what}")
