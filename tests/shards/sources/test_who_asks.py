"""A web server learns who asks from the URL or the options, and no other server does that it redirects to."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from adaptive_sampler.remote.connect import without_user
from adaptive_sampler.shards import Access, Retry, ShardIndex
from tests.shards.tars import shards, whole
from tests.web import served

BASIC = "Basic dXNlcjpwYUBzcw=="  # user:pa@ss


def server(respond: Callable[[BaseHTTPRequestHandler], None]) -> AbstractContextManager[str]:
    """The address of a server whose requests `respond` answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            respond(self)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    return served(Handler)


class Shard:
    """Answers with a shard, and notes who asked. `sized`: whether a Content-Range gives its size, as obstore wants it."""

    def __init__(self, folder: Path, sized: bool) -> None:
        self.data = Path(shards(folder, [4])[0]).read_bytes()
        self.sized, self.asked = sized, set[str | None]()

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.add(request.headers["Authorization"])
        start, stop = map(int, request.headers["Range"].removeprefix("bytes=").split("-"))
        part = self.data[start : stop + 1]
        request.send_response(206 if part else 416)
        size = len(self.data) if self.sized or not part else "*"
        told = f"{start}-{start + len(part) - 1}" if part else "*"
        request.send_header("Content-Range", f"bytes {told}/{size}")
        request.send_header("Content-Length", str(len(part)))
        request.end_headers()
        request.wfile.write(part)


def moved(address: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Redirects to another server."""

    def respond(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", f"{address}/shard.tar")
        request.send_header("Content-Length", "0")
        request.end_headers()

    return respond


@pytest.mark.parametrize("sized", [True, False])
def test_another_server_is_not_told_who_asks(tmp_path: Path, sized: bool) -> None:
    shard = Shard(tmp_path, sized)
    access = Access(retry=Retry(1), options={"client_options": {"default_headers": {"Authorization": "Bearer secret"}}})
    with server(shard) as address, server(moved(address)) as first:
        ShardIndex.build(f"{first}/shard.tar", tmp_path / "index", access=access)
    assert shard.asked == {None}


@pytest.mark.parametrize("sized", [True, False])
def test_user_and_password_of_a_url_are_sent(tmp_path: Path, sized: bool) -> None:
    shard = Shard(tmp_path, sized)
    with server(shard) as address:
        named = address.replace("http://", "http://user:pa%40ss@")
        index = ShardIndex.build(f"{named}/shard.tar", tmp_path / "index")
        assert len(whole(index)) == 4
    assert shard.asked == {BASIC}


@pytest.mark.parametrize(
    "url",
    ["https://host/a@b.tar", "https://host?x=a@b", "s3://user@bucket/a.tar", "folder/a@b.tar", "https://host#a@b"],
)
def test_an_at_sign_elsewhere_names_no_user(url: str) -> None:
    assert without_user(url) == (url, {})


def test_a_user_without_a_password_is_one() -> None:
    assert without_user("https://user@host/a.tar") == ("https://host/a.tar", {"Authorization": "Basic dXNlcjo="})
