"""uvicorn with several processes, which accept from one listening socket."""

from _http_work import meet
from commands import serving

LINE = "uvicorn app:app --loop epoll_loop:new_event_loop"

with serving(f"{LINE} --workers 2 --port {{port}} --log-level warning", output="shut down\n" * 2) as server:
    loop = meet(server, workers=2)
print(loop)
