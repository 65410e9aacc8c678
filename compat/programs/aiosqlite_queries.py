"""aiosqlite and aiofiles: results that come from other threads."""

import asyncio
import tempfile
from pathlib import Path

import aiofiles
import aiofiles.os
import aiofiles.tempfile
import aiosqlite

BLOB = bytes(range(256)) * 2**12  # 1 MiB


async def queries(path: Path) -> None:
    async with aiosqlite.connect(path) as db:
        await db.execute("create table t (n integer unique, data blob)")
        await asyncio.gather(*[db.execute("insert into t values (?, null)", (n,)) for n in range(1000)])
        await db.commit()
        async with db.execute("select n from t order by n") as rows:
            assert [row[0] async for row in rows] == list(range(1000))
        await db.execute("update t set data = ? where n = 5", (BLOB,))
        try:
            await db.execute("insert into t values (5, null)")
            raise AssertionError("twice the same number")
        except aiosqlite.IntegrityError:
            await db.rollback()
        await db.execute("update t set data = ? where n = 6", (BLOB,))
        await db.commit()

    async def count() -> int:
        async with aiosqlite.connect(path) as db:
            (row,) = await db.execute_fetchall("select sum(n), max(data) from t")
            assert row[1] == BLOB
            return row[0]

    assert await asyncio.gather(*[count() for _ in range(10)]) == [sum(range(1000))] * 10
    endless = "with recursive up(n) as (select 1 union all select n + 1 from up) select count(*) from up"
    async with aiosqlite.connect(path) as db:
        counting = asyncio.create_task(db.execute(endless))
        while not counting.done():  # an interrupt before it runs is lost
            await db.interrupt()
            await asyncio.sleep(0.001)
        assert isinstance(counting.exception(), aiosqlite.OperationalError)


async def files(folder: Path) -> None:
    async def append(n: int) -> None:
        async with aiofiles.open(folder / "lines", "a") as file:
            await file.write(f"{n}\n")

    await asyncio.gather(*[append(n) for n in range(100)])
    async with aiofiles.open(folder / "lines") as file:
        assert sorted([int(line) async for line in file]) == list(range(100))
    async with aiofiles.open(folder / "blob", "w+b") as file:
        for _ in range(4):
            await file.write(BLOB)
        await file.seek(len(BLOB) // 2)
        assert await file.read(len(BLOB)) == BLOB[len(BLOB) // 2 :] + BLOB[: len(BLOB) // 2]
    await aiofiles.os.rename(folder / "blob", folder / "renamed")
    assert (await aiofiles.os.stat(folder / "renamed")).st_size == 4 * len(BLOB)
    assert sorted(await aiofiles.os.listdir(folder)) == ["lines", "renamed"]
    async with aiofiles.tempfile.TemporaryFile() as file:
        await file.write(BLOB)
        await file.seek(0)
        assert await file.read() == BLOB


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        await files(Path(folder))
        await queries(Path(folder, "db"))
    print(type(asyncio.get_running_loop()).__module__)


asyncio.run(main())
