"""A real web server on 127.0.0.1 that counts what it serves, with or without ranges, and can be made to fail."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Server:
    """Serves the files of `folder`; `ranges`, `etags`, `failures` and `drops` may be changed at any time."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.ranges, self.etags = True, True
        self.failures = 0  # so many requests are answered with 503
        self.drops = 0  # so many answers break off in the middle
        self.shift = 0  # every range but the first byte is answered by one that begins so many bytes before
        self.shorten = 0  # and ends so many bytes before its own end
        self.requests = self.connections = self.bytes_served = 0
        self.lock = threading.Lock()

    def url(self, path: str) -> str:
        """The URL of a file."""
        return f"http://127.0.0.1:{self.port}/{Path(path).name}"

    def reset(self) -> None:
        """Count from zero."""
        self.requests = self.connections = self.bytes_served = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections
    state: Server

    def setup(self) -> None:
        super().setup()
        with self.state.lock:
            self.state.connections += 1

    def do_GET(self) -> None:
        with self.state.lock:
            self.state.requests += 1
            fail, self.state.failures = self.state.failures > 0, max(self.state.failures - 1, 0)
            drop, self.state.drops = not fail and self.state.drops > 0, max(self.state.drops - (not fail), 0)
        path = self.state.folder / self.path.lstrip("/")
        if fail or not path.is_file():
            self.send_response(503 if fail else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._send(path, drop)

    def _send(self, path: Path, drop: bool) -> None:
        status = path.stat()
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")) if self.state.ranges else None
        start, stop = (int(asked[1]), min(int(asked[2]) + 1, status.st_size)) if asked else (0, status.st_size)
        if asked and start:
            start, stop = start - self.state.shift, stop - self.state.shift - self.state.shorten
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{status.st_size}")
        if self.state.etags:
            self.send_header("ETag", f'"{status.st_size}-{status.st_mtime_ns}"')
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        with path.open("rb") as file:
            file.seek(start)
            body = file.read(stop - start)
        if drop:
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        for at in range(0, len(body), 1 << 16):
            try:
                self.wfile.write(body[at : at + (1 << 16)])
            except ConnectionError:  # the client has seen enough
                self.close_connection = True
                return
            with self.state.lock:
                self.state.bytes_served += len(body[at : at + (1 << 16)])

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that drops its connection is part of the tests."""


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server for the files of `folder`."""
    handler = type("Handler", (_Handler,), {})
    httpd = _Quiet(("127.0.0.1", 0), handler)
    handler.state = Server(folder, httpd.server_address[1])  # type: ignore[attr-defined]
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield handler.state  # type: ignore[attr-defined]
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
