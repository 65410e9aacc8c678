"""aiosqlite and aiofiles: results that come from other threads."""

import asyncio
import tempfile
from pathlib import Path

import aiofiles
import aiosqlite


async def main() -> None:
    async with aiosqlite.connect(":memory:") as db:
        await db.execute("create table t (n integer)")
        await asyncio.gather(*[db.execute("insert into t values (?)", (n,)) for n in range(1000)])
        async with db.execute("select n from t order by n") as rows:
            assert [row[0] async for row in rows] == list(range(1000))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")

        async def append(n: int) -> None:
            async with aiofiles.open(path, "a") as file:
                await file.write(f"{n}\n")

        await asyncio.gather(*[append(n) for n in range(100)])
        async with aiofiles.open(path) as file:
            assert sorted([int(line) async for line in file]) == list(range(100))
    print(type(asyncio.get_running_loop()).__module__)


asyncio.run(main())
