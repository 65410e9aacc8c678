"""gunicorn with uvicorn's worker."""

from _http_work import work
from commands import serving

WORKER = """
from uvicorn_worker import UvicornWorker


class Worker(UvicornWorker):
    CONFIG_KWARGS = {"loop": "epoll_loop:new_event_loop"}
"""
LINE = "gunicorn app:app --worker-class worker.Worker"

with serving(
    f"{LINE} --workers 2 --keep-alive 60 --bind 127.0.0.1:{{port}} --log-level warning",
    {"worker.py": WORKER},
    output="shut down\n" * 2,
) as server:
    loop = work(server)
print(loop)
