"""A server between a client and an S3 server, which fails, swallows answers or drops conditions as it is told."""

import contextlib
import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

from tests.web import served

Rule = Callable[[str, str], int | str | None]
"""(method, path) -> None: pass on; a status to answer with; "lost": pass on, and hang up; or a header to leave out."""

EXPIRED = 400  # as S3 says that a token has expired


class Proxy:
    """`rule`: what it does with a request. `address`: its own. `options`: those by which a store asks it, each time once."""

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.address = ""
        self.options: dict[str, Any] = {"retry_config": {"max_retries": 0}}
        self.rule: Rule = lambda method, path: None


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            told = proxy.rule(self.command, self.path)
            if isinstance(told, int):
                self.send_response(told)
                text = b"<Error><Code>ExpiredToken</Code></Error>" if told == EXPIRED else b""
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)
                return
            headers = {name: value for name, value in self.headers.items() if name.lower() != told}
            upstream = http.client.HTTPConnection(proxy.target, timeout=30)
            upstream.request(self.command, self.path, body, headers)
            found = upstream.getresponse()
            data = found.read()
            upstream.close()
            if told == "lost":
                self.close_connection = True
                self.connection.close()
                return
            self.send_response(found.status)
            for name, value in found.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "content-length", "server", "date"):
                    self.send_header(name, value)
            self.send_header("Content-Length", found.getheader("Content-Length") or str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError, ValueError):  # the client, or the rule, hung up
                super().handle()

    return Handler


@contextmanager
def proxy_of(target: str) -> Iterator[Proxy]:
    """A proxy of the server at `target`, an address as http://host:port."""
    proxy = Proxy(target)
    with served(_handler(proxy)) as proxy.address:
        proxy.options["aws_endpoint"] = proxy.address
        yield proxy
