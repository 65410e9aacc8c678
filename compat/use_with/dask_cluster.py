"""Dask distributed, `distributed.admin.event-loop: asyncio`: workers as threads of this process, and as processes."""

import asyncio
import logging
import operator
import tempfile
import warnings

import dask
from dask.distributed import Client, LocalCluster, as_completed, get_client

import epoll_loop

warnings.simplefilter("ignore", DeprecationWarning)  # policies, from Python 3.14 on
# Not under `if __name__ == "__main__"`: worker processes import this file, and get the loop by that.
epoll_loop.install()

dask.config.set({"distributed.admin.event-loop": "asyncio"})
logging.getLogger("distributed.worker").setLevel(logging.CRITICAL)  # it logs the exceptions that it hands back
BLOB = bytes(range(256)) * 2**12  # 1 MiB


async def loop_of() -> str:
    return type(asyncio.get_running_loop()).__module__


def nested(n: int) -> int:
    """Ask for more work from inside of a task."""
    return sum(get_client().gather(get_client().map(operator.mul, range(n), range(n))))


def work(client: Client) -> None:
    squares = client.map(lambda n: n * n, range(100))
    assert client.submit(sum, squares).result() == sum(n * n for n in range(100))
    assert sorted(future.result() for future in as_completed(squares)) == [n * n for n in range(100)]
    scattered = client.scatter([BLOB] * 4, hash=False)
    assert client.gather(client.map(len, scattered)) == [len(BLOB)] * 4
    assert client.submit(operator.add, *scattered[:2]).result() == BLOB * 2
    assert client.submit(nested, 20).result() == sum(n * n for n in range(20))
    failed = client.submit(operator.truediv, 1, 0)
    assert isinstance(failed.exception(), ZeroDivisionError)
    total = dask.delayed(sum)([dask.delayed(operator.neg)(n) for n in range(50)])
    assert client.compute(total).result() == -sum(range(50))


async def asynchronous() -> str:
    async with (
        LocalCluster(2, processes=False, dashboard_address=None, asynchronous=True) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        assert await client.gather(client.map(operator.neg, range(100))) == [-n for n in range(100)]
    return await loop_of()


def main() -> None:
    loops = {asyncio.run(asynchronous())}
    for processes in (False, True):
        with (
            LocalCluster(2, processes=processes, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            work(client)
            loops |= {client.sync(loop_of), client.run_on_scheduler(loop_of), *client.run(loop_of).values()}
    (loop,) = loops
    print(loop)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, dask.config.set(temporary_directory=folder):
        main()
