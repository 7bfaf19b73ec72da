"""A proxy in a process of its own that passes on what comes to it, each request after a while: a line with latency."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


async def _pass(source: asyncio.StreamReader, target: asyncio.StreamWriter, wait: float) -> None:
    with suppress(ConnectionError):
        while data := await source.read(1 << 18):
            await asyncio.sleep(wait)
            target.write(data)
            await target.drain()
    target.close()


async def _serve(port: int, seconds: float) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_pass(reader, there[1], seconds), _pass(there[0], writer, 0.0))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def delayed(port: int, seconds: float) -> Iterator[int]:
    """The port on which 127.0.0.1:`port` answers so many seconds later."""
    command = [sys.executable, __file__, str(port), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
