"""A client that is nobody's library: what a server sends is seen as it comes."""

import asyncio


async def get(port: int, path: str = "/") -> tuple[int, bytes]:
    """GET a path from 127.0.0.1 and return the status and the body, chunks as they came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2]
