"""asyncpg by TCP, TLS and a Unix socket: a pool, COPY both ways, notifications, cancelled queries, transactions."""

import asyncio
import io
import ssl

import asyncpg
import postgres

BLOB = bytes(range(256)) * 2**13  # 2 MiB


async def pooled(pool: asyncpg.Pool) -> None:
    async def double(n: int) -> int:
        return await pool.fetchval("select $1::int * 2", n)

    assert await asyncio.gather(*[double(n) for n in range(200)]) == [n * 2 for n in range(200)]
    assert await pool.fetchval("select $1::bytea", BLOB) == BLOB


async def prepared(connection: asyncpg.Connection) -> None:
    squares = await connection.prepare("select n, n * n from generate_series(1, $1::int) n")
    for size in (1, 10, 10_000):
        assert [tuple(row) for row in await squares.fetch(size)] == [(n, n * n) for n in range(1, size + 1)]
    async with connection.transaction():
        assert [row[0] async for row in squares.cursor(1000, prefetch=7)] == list(range(1, 1001))


async def copies(connection: asyncpg.Connection) -> None:
    await connection.execute("create table copied (n int, data bytea)")
    records = [(n, BLOB[n : n + 2**14]) for n in range(128)]  # 2 MiB
    assert await connection.copy_records_to_table("copied", records=records) == "COPY 128"
    assert [tuple(row) for row in await connection.fetch("select * from copied order by n")] == records
    file = io.BytesIO()
    await connection.copy_from_table("copied", output=file)
    assert file.tell() > 2**22  # as text, two digits a byte
    file.seek(0)
    await connection.execute("truncate copied")
    assert await connection.copy_to_table("copied", source=file) == "COPY 128"
    assert [tuple(row) for row in await connection.fetch("select * from copied order by n")] == records


async def notified(listener: asyncpg.Connection, pool: asyncpg.Pool) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    def hear(connection: asyncpg.Connection, pid: int, channel: str, payload: str) -> None:
        heard.put_nowait(payload)

    await listener.add_listener("news", hear)
    await asyncio.gather(*[pool.execute("select pg_notify('news', $1)", str(n)) for n in range(100)])
    assert {await heard.get() for _ in range(100)} == {str(n) for n in range(100)}
    await listener.remove_listener("news", hear)


async def interrupted(one: asyncpg.Connection, other: asyncpg.Connection) -> None:
    asleep = "select count(*) from pg_stat_activity where state = 'active' and query = 'select pg_sleep(1000)'"
    try:
        await one.execute("select pg_sleep(1000)", timeout=0.05)
        raise AssertionError("it has slept")
    except TimeoutError:
        assert await one.fetchval("select 1") == 1
    task = asyncio.create_task(one.execute("select pg_sleep(1000)"))
    while not await other.fetchval(asleep):
        pass
    task.cancel()
    assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
    assert await one.fetchval(asleep) == 0


async def transactions(one: asyncpg.Connection, other: asyncpg.Connection) -> None:
    await one.execute("create table account (name text primary key, amount int); insert into account values ('a', 0)")
    try:
        async with one.transaction():
            await one.execute("update account set amount = 5")
            assert await other.fetchval("select amount from account") == 0
            raise RuntimeError("no")
    except RuntimeError:
        assert await one.fetchval("select amount from account") == 0
    async with one.transaction():
        await one.execute("update account set amount = 1")
        waits = asyncio.create_task(other.execute("update account set amount = amount * 10"))  # for the lock
        await one.execute("update account set amount = 2")
    await waits
    assert await one.fetchval("select amount from account") == 20


async def main(server: postgres.Server) -> None:
    trusting = ssl.create_default_context()
    server.authority.configure_trust(trusting)
    own = {"user": postgres.USER, "database": "postgres", "port": server.port}
    unix = own | {"host": server.folder}
    plain = own | {"host": "127.0.0.1", "ssl": False}
    secure = own | {"host": "127.0.0.1", "ssl": trusting}
    for way in (unix, plain, secure):
        async with asyncpg.create_pool(**way, min_size=4, max_size=8) as pool:
            await pooled(pool)
            async with pool.acquire() as one, pool.acquire() as other:
                assert await one.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()") == (way is secure)
                await prepared(one)
                await copies(one)
                await notified(one, pool)
                await interrupted(one, other)
                await transactions(one, other)
                await one.execute("drop table copied, account")
    print(type(asyncio.get_running_loop()).__module__)


with postgres.server() as server:
    if server is None:
        print(postgres.MISSING)
    else:
        asyncio.run(main(server))
