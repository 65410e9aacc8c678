"""uvicorn, HTTP/1.1 read by h11."""

import signal

from _http_work import work
from commands import serving

LINE = "uvicorn app:app --loop epoll_loop:new_event_loop"

# When it is done, uvicorn gives itself the signal again.
with serving(
    f"{LINE} --http h11 --timeout-keep-alive 60 --port {{port}} --log-level warning",
    code=-signal.SIGTERM,
    output="shut down\n",
) as server:
    loop = work(server)
print(loop)
