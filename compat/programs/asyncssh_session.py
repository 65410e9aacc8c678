"""asyncssh: a server and a client, key exchange, commands, a large output."""

import asyncio

import asyncssh


class Server(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


async def handle(process: asyncssh.SSHServerProcess[str]) -> None:
    process.stdout.write((process.command or "") * 1000)
    await process.stdout.drain()
    process.exit(0)


async def main() -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[key], server_factory=Server, process_factory=handle
    )
    port = server.get_port()
    async with asyncssh.connect("127.0.0.1", port, known_hosts=None, config=None, client_keys=None) as ssh:
        results = await asyncio.gather(*[ssh.run(f"command {i}" * 50) for i in range(5)])
        assert [result.stdout for result in results] == [f"command {i}" * 50_000 for i in range(5)]
    server.close()
    await server.wait_closed()
    print(type(asyncio.get_running_loop()).__module__)


asyncio.run(main())
