"""uvicorn, HTTP/1.1 read by httptools."""

import signal

from _http_work import work
from commands import serving

LINE = "uvicorn app:app --loop epoll_loop:new_event_loop"

# When it is done, uvicorn gives itself the signal again.
with serving(
    f"{LINE} --http httptools --timeout-keep-alive 60 --port {{port}} --log-level warning",
    code=-signal.SIGTERM,
    output="shut down\n",
) as server:
    loop = work(server)
print(loop)
