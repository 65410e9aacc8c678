"""uvicorn with several processes, which accept from one listening socket."""

import asyncio

import epoll_loop
import httpx
from commands import Command, serving

LINE = "uvicorn app:app --loop epoll_loop:new_event_loop"
WORKERS = 2


async def work(server: Command) -> str:
    loops = set()
    workers = set()
    while len(workers) < WORKERS:  # a connection goes to whoever comes first
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client:
            answers = await asyncio.gather(*[client.get("/") for _ in range(20)])
        for answer in answers:
            loops.add(answer.json()["loop"])
            workers.add(answer.json()["pid"])
    (loop,) = loops
    return loop


command = f"{LINE} --workers {WORKERS} --port {{port}} --log-level warning"
with serving(command, output="shut down\n" * WORKERS) as server:
    loop = epoll_loop.run(work(server))
print(loop)
