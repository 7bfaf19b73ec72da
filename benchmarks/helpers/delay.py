"""A proxy in a process of its own that passes on what comes to it, each request after a while: a line with latency."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


async def _pass(source: socket.socket, target: socket.socket, wait: float) -> None:
    loop, piece = asyncio.get_running_loop(), memoryview(bytearray(1 << 20))
    with suppress(OSError):
        while size := await loop.sock_recv_into(source, piece):
            await asyncio.sleep(wait)
            await loop.sock_sendall(target, piece[:size])
        target.shutdown(socket.SHUT_WR)


async def _connected(here: socket.socket, port: int, wait: float) -> None:
    with here, socket.socket() as there:
        there.setblocking(False)
        await asyncio.get_running_loop().sock_connect(there, ("127.0.0.1", port))
        for side in (here, there):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(_pass(here, there, wait), _pass(there, here, 0.0))


async def _serve(port: int, wait: float) -> None:
    """Plain sockets, not asyncio's streams, which pass on half as many bytes a second: the line is not to be the narrow part."""
    running = set[asyncio.Task[None]]()
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        server.setblocking(False)
        print(server.getsockname()[1], flush=True)
        while True:
            here, _ = await asyncio.get_running_loop().sock_accept(server)
            running.add(task := asyncio.ensure_future(_connected(here, port, wait)))
            task.add_done_callback(running.discard)


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
