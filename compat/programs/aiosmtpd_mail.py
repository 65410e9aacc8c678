"""aiosmtpd and aiosmtplib: a mail server on a loop in a thread of its own, its client on the main one."""

import asyncio
import tempfile
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import aiosmtplib
from aiosmtpd.controller import UnixSocketController

received: list[bytes] = []


class Handler:
    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        received.append(envelope.content)
        return "250 OK"


async def main() -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@example.org", "b@example.org", "hello"
    message.set_content("text\n" * 1000)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "socket"))
        controller = UnixSocketController(Handler(), unix_socket=path)
        controller.start()
        for _ in range(10):
            await aiosmtplib.send(message, socket_path=path, hostname="localhost", start_tls=False)
        controller.stop()
    assert [content.count(b"text\r\n") for content in received] == [1000] * 10
    print(type(asyncio.get_running_loop()).__module__)


asyncio.run(main())
