"""aiodns, both ways that c-ares waits for its sockets: by a thread of its own, and by the loop."""

import asyncio
import socket

import aiodns
import pycares
from _dns import LONG, serving


class Watched(aiodns.DNSResolver):
    """What it is on a system that has no inotify watch left for it: the loop watches the sockets and keeps the time."""

    def _make_channel(self, **options):  # type: ignore[no-untyped-def]
        return False, pycares.Channel(sock_state_cb=self._sock_state_cb, timeout=self._timeout, **options)


async def failure(resolver: aiodns.DNSResolver, name: str) -> int | None:
    try:
        await resolver.query_dns(name, "A")
    except aiodns.error.DNSError as exc:
        return exc.args[0]
    return None


async def look_up(resolver: aiodns.DNSResolver) -> None:
    async def address(number: int) -> str:
        found = await resolver.query_dns(f"h{number}.test", "A")
        return found.answer[0].data.addr

    assert await asyncio.gather(*[address(n) for n in range(200)]) == [f"10.0.0.{n}" for n in range(200)]
    both = await resolver.getaddrinfo("h7.test", family=socket.AF_UNSPEC)
    assert {node.addr[0] for node in both.nodes} == {b"10.0.0.7", b"fd00::7"}
    for _ in range(3):  # by TCP
        text = (await resolver.query_dns("long.test", "TXT")).answer
        assert b"".join(record.data.data for record in text) == b"".join(LONG)
    assert await failure(resolver, "nobody.test") == aiodns.error.ARES_ENOTFOUND
    waiting = asyncio.create_task(failure(resolver, "silent.test"))
    await asyncio.sleep(0)
    resolver.cancel()
    assert await waiting == aiodns.error.ARES_ECANCELLED
    assert await address(9) == "10.0.0.9"


async def main() -> None:
    async with serving() as port:
        for kind in (aiodns.DNSResolver, Watched):
            where = {"nameservers": ["127.0.0.1"], "udp_port": port, "tcp_port": port, "lookups": "b"}
            async with kind(**where, timeout=5, tries=4) as resolver:
                assert resolver._event_thread == (kind is aiodns.DNSResolver)
                await look_up(resolver)
            async with kind(**where, timeout=0.1, tries=2) as resolver:
                assert await failure(resolver, "silent.test") == aiodns.error.ARES_ETIMEOUT
    print(type(asyncio.get_running_loop()).__module__)


asyncio.run(main())
