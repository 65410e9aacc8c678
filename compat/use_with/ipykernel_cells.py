"""ipykernel, as Jupyter starts it, by a kernel.json that runs it on this loop: cells, input, interrupts, a restart."""

import asyncio
import os
import tempfile
from pathlib import Path

from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

import epoll_loop

KERNEL = """{
  "argv": ["python", "-m", "epoll_loop", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
  "display_name": "Python on epoll_loop", "language": "python"
}"""
PATIENCE = 50  # seconds
SERVER = """
async def echo(reader, writer):
    writer.write(await reader.read())
    writer.close()

server = await asyncio.start_server(echo, "127.0.0.1", 0)
"""
CLIENT = """
reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
writer.write(b"x" * 2**20)
writer.write_eof()
print(len(await reader.read()))
writer.close()
server.close()
await server.wait_closed()
"""
PROCESS = """
process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
print((await process.communicate(b"by cat"))[0].decode())
"""


class Notebook:
    """What talks to the kernel."""

    def __init__(self, kernel: AsyncKernelManager, client: AsyncKernelClient) -> None:
        self.kernel = kernel
        self.client = client

    async def run(self, code: str) -> str:
        """Run a cell and return what it prints, or its error's name. It is interrupted when it prints "endless"."""
        said: list[str] = []

        def hear(message) -> None:  # type: ignore[no-untyped-def]
            said.append(message["content"].get("text", ""))
            if "endless" in said[-1]:
                self.interrupt = asyncio.create_task(self.kernel.interrupt_kernel())

        def ask(message) -> None:  # type: ignore[no-untyped-def]
            self.client.input(message["content"]["prompt"] * 2)

        hooks = {"output_hook": hear, "stdin_hook": ask, "allow_stdin": True}
        reply = (await self.client.execute_interactive(code, timeout=PATIENCE, **hooks))["content"]
        return "".join(said).strip() if reply["status"] == "ok" else reply["ename"]


async def work(notebook: Notebook) -> None:
    for code, result in {
        "import asyncio, time": "",
        "print(6 * 7)": "42",
        "await asyncio.sleep(0.01); print('slept')": "slept",
        "task = asyncio.create_task(asyncio.sleep(0.01, 'later'))": "",
        "print(await task)": "later",
        "print(await asyncio.to_thread(sum, [1, 2]))": "3",
        SERVER: "",
        CLIENT: str(2**20),
        PROCESS: "by cat",
        "!echo by a shell": "by a shell",
        "print(input('again'))": "againagain",
        "1 / 0": "ZeroDivisionError",
        "print('endless', flush=True); time.sleep(1000)": "KeyboardInterrupt",
        # It sleeps briefly, since asyncio hears of a signal when it wakes.
        "print('endless', flush=True)\nwhile True: await asyncio.sleep(0.01)": "CancelledError",
        "print('x' * 1_000_000)": "x" * 1_000_000,
        "print(sorted(globals()).count('task'))": "1",
    }.items():
        said = await notebook.run(code)
        assert said == result, (code, said[:1000])
    assert (await notebook.client.complete("asyncio.start_ser", reply=True))["content"]["matches"] == ["start_server"]


async def main(folder: Path) -> None:
    (folder / "ours").mkdir()
    (folder / "ours/kernel.json").write_text(KERNEL)
    kernel = AsyncKernelManager(
        kernel_name="ours", kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(folder)], ensure_native_kernel=False)
    )
    environment = os.environ | {"IPYTHONDIR": str(folder), "JUPYTER_RUNTIME_DIR": str(folder)}
    # A restart interrupts first, and the kernel would tell of it.
    quiet = {"extra_arguments": ["--log-level=CRITICAL"], "env": environment | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}}
    await kernel.start_kernel(cwd=str(folder), **quiet)
    client = kernel.client()
    client.start_channels()
    try:
        await client.wait_for_ready(PATIENCE)
        notebook = Notebook(kernel, client)
        await work(notebook)
        await kernel.restart_kernel()
        await client.wait_for_ready(PATIENCE)
        assert await notebook.run("task") == "NameError"
        print(await notebook.run("import asyncio; print(type(asyncio.get_running_loop()).__module__)"))
        process = kernel.provisioner.process
    finally:
        client.stop_channels()
        await kernel.shutdown_kernel()
    assert process.returncode == 0


with tempfile.TemporaryDirectory() as folder:
    os.environ["JUPYTER_RUNTIME_DIR"] = folder
    epoll_loop.run(main(Path(folder)))
