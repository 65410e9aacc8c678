"""asyncssh, a server and its client: commands, dialogues, SFTP, ports forwarded both ways."""

import asyncio
import tempfile
from pathlib import Path

import asyncssh

BLOB = bytes(range(256)) * 2**13  # 2 MiB


class Server(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False

    def connection_requested(self, host: str, port: int, origin: str, origin_port: int) -> bool:
        return True

    def server_requested(self, host: str, port: int) -> bool:
        return True


async def handle(process: asyncssh.SSHServerProcess[str]) -> None:
    """Run the commands `repeat WORD` and `sort`, the latter as a process; without one, answer line by line."""
    match (process.command or "").split():
        case ["repeat", word]:
            process.stdout.write(word * 100_000)
            process.stderr.write("done")
        case ["sort"]:
            pipe = asyncio.subprocess.PIPE
            sort = await asyncio.create_subprocess_exec("sort", "-n", stdin=pipe, stdout=pipe)
            await process.redirect(stdin=sort.stdin, stdout=sort.stdout)
            await process.stdout.drain()
            await sort.wait()
        case _:
            async for line in process.stdin:
                process.stdout.write(line.upper())
    process.exit(3)
    await process.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(2**16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def commands(ssh: asyncssh.SSHClientConnection) -> None:
    results = await asyncio.gather(*[ssh.run(f"repeat word{i}") for i in range(5)])
    assert [result.stdout for result in results] == [f"word{i}" * 100_000 for i in range(5)]
    assert {(result.stderr, result.exit_status) for result in results} == {("done", 3)}
    numbers = [f"{n}\n" for n in range(20_000)]
    assert (await ssh.run("sort", input="".join(reversed(numbers)))).stdout == "".join(numbers)

    async def dialogue(word: str) -> None:
        async with ssh.create_process() as process:
            for i in range(50):
                process.stdin.write(f"{word}{i}\n")
                assert await process.stdout.readline() == f"{word.upper()}{i}\n"
            process.stdin.write_eof()
            assert (await process.wait()).exit_status == 3

    await asyncio.gather(*[dialogue(word) for word in ("one", "two", "three")])


async def files(ssh: asyncssh.SSHClientConnection, here: Path, there: Path) -> None:
    (here / "blob").write_bytes(BLOB)
    async with ssh.start_sftp_client() as sftp:
        await sftp.put(here / "blob", "/copy")
        assert (there / "copy").read_bytes() == BLOB
        await sftp.get("/copy", here / "back")
        assert (here / "back").read_bytes() == BLOB
        await asyncio.gather(*[sftp.mkdir(f"/folder{i}") for i in range(50)])
        assert sorted(await sftp.glob("/folder?")) == [f"/folder{i}" for i in range(10)]
        async with sftp.open("/copy", "rb+") as file:
            await file.write(b"other", 1000)
            assert await file.read(7, 999) == BLOB[999:1000] + b"other" + BLOB[1005:1006]


async def forwarded(ssh: asyncssh.SSHClientConnection) -> None:
    async def send(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(BLOB)
        writer.write_eof()
        assert await reader.read() == BLOB
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as target:
        port = target.sockets[0].getsockname()[1]
        local = await ssh.forward_local_port("127.0.0.1", 0, "127.0.0.1", port)
        remote = await ssh.forward_remote_port("127.0.0.1", 0, "127.0.0.1", port)
        for listener in (local, remote):
            await asyncio.gather(*[send(listener.get_port()) for _ in range(4)])
            listener.close()
            await listener.wait_closed()


async def main() -> None:
    with tempfile.TemporaryDirectory() as here, tempfile.TemporaryDirectory() as there:

        def sftp(channel: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SFTPServer:
            return asyncssh.SFTPServer(channel, chroot=there)

        key = asyncssh.generate_private_key("ssh-ed25519")
        server = await asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=[key], server_factory=Server, process_factory=handle, sftp_factory=sftp
        )
        known = asyncssh.import_known_hosts(f"[127.0.0.1]:{server.get_port()} {key.export_public_key().decode()}")
        where = {"host": "127.0.0.1", "port": server.get_port()}
        async with asyncssh.connect(**where, known_hosts=known, config=None, client_keys=None) as ssh:
            await commands(ssh)
            await files(ssh, Path(here), Path(there))
            await forwarded(ssh)
        server.close()
        await server.wait_closed()
    print(type(asyncio.get_running_loop()).__module__)


asyncio.run(main())
