"""What a server or a proxy answers wrongly is an error that names the shard, and what is odd but right is read."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from adaptive_sampler.shards import (
    Access,
    RangesUnsupported,
    Retry,
    ShardChanged,
    ShardIndex,
    ShardMissing,
    ShardReader,
    ShardUnreadable,
    WrongRange,
)
from tests.shards.tars import body, plan_of, shards
from tests.web import served

COUNT = 6


@dataclass
class Request:
    """A request for bytes start … stop − 1 of a file, its `nth` since the answers changed."""

    data: bytes
    start: int
    stop: int
    nth: int

    def right(self, *, size: int | str | None = None) -> "Answer":
        """The bytes, with a Content-Range that gives the file's `size`."""
        told = f"bytes {self.start}-{self.stop - 1}/{len(self.data) if size is None else size}"
        length = str(self.stop - self.start)
        return Answer(206, {"Content-Range": told, "Content-Length": length}, [self.data[self.start : self.stop]])

    def unmeasured(self, body: Iterable[bytes] | None = None) -> "Answer":
        """The same, or another `body`, without a Content-Length."""
        right = self.right()
        headers = {name: value for name, value in right.headers.items() if name != "Content-Length"}
        return Answer(206, headers, right.body if body is None else body)


@dataclass
class Answer:
    """An answer; its body ends with the connection unless a Content-Length is among the headers."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: Iterable[bytes] = ()


@dataclass
class Server:
    """Serves one shard by `answer`."""

    folder: Path
    url: str
    answer: Callable[[Request], Answer] = Request.right
    nth: int = 0

    def answers(self, how: Callable[[Request], Answer]) -> None:
        """Answer in another way from now on."""
        self.answer, self.nth = how, 0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    data = Path(shards(tmp_path, [COUNT])[0]).read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            start, stop = self.headers.get("Range", f"bytes=0-{len(data) - 1}").removeprefix("bytes=").split("-")
            serving.nth += 1
            asked = Request(data, int(start), min(int(stop) + 1, len(data)), serving.nth)
            found = Answer(416) if asked.start >= len(data) else serving.answer(asked)
            self.send_response(found.status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.end_headers()
            for piece in found.body:
                try:
                    self.wfile.write(piece)
                except ConnectionError:  # the client has seen enough
                    return

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    with served(Handler) as address:
        serving = Server(tmp_path, f"{address}/shard.tar")
        yield serving


def built(server: Server, tries: int = 2) -> ShardIndex:
    return ShardIndex.build(server.url, server.folder / "index", access=Access(retry=Retry(tries, 0)))


def read(
    server: Server, index: ShardIndex, tries: int = 2, rows: Iterable[int] = (1, 4), **access: Any
) -> list[dict[str, Any]]:
    plan = plan_of(COUNT, rows)
    return list(ShardReader(index, plan, access=Access(retry=Retry(tries, 0), **access), merge_gap=0))


ONE = {"io_threads": 1}  # one request after the other, so that the first answer opens the shard


def assert_right(samples: list[dict[str, Any]]) -> None:
    assert sorted(sample["__index__"] for sample in samples) == [1, 4]
    assert all(sample["bin"] == body(sample["__key__"]) for sample in samples)


def without_end(request: Request) -> Answer:
    def pieces() -> Iterator[bytes]:
        while True:
            yield bytes(1 << 16)

    return request.unmeasured(pieces())


@pytest.mark.parametrize("while_indexing", [True, False])
def test_a_body_without_end_is_left_where_the_range_ends(server: Server, while_indexing: bool) -> None:
    index = None if while_indexing else built(server)
    server.answers(without_end)
    with pytest.raises(
        WrongRange, match=r"shard\.tar: asked for bytes (\d+-\d+), answered by 'bytes \1/\d+' and more bytes"
    ):
        built(server) if index is None else read(server, index)


def test_a_body_that_ends_early_is_told(server: Server) -> None:
    index = built(server)

    def early(request: Request) -> Answer:
        return request.unmeasured([b"".join(request.right().body)[:100]]) if request.nth > 1 else request.right()

    server.answers(early)
    with pytest.raises(WrongRange, match=r"'bytes \d+-\d+/\d+' and 100 bytes"):
        read(server, index, **ONE)


def test_a_server_that_does_not_tell_the_length_of_its_answers_is_read(server: Server) -> None:
    server.answers(lambda request: request.unmeasured())
    assert_right(read(server, built(server)))


def test_a_server_that_does_not_tell_the_size_is_read(server: Server) -> None:
    server.answers(lambda request: request.right(size="*"))
    assert_right(read(server, built(server)))


def test_a_server_that_does_not_tell_the_size_of_an_indexed_shard_is_read_if_the_etag_is_the_same(
    server: Server,
) -> None:
    server.answers(lambda request: tagged(request, "a"))
    index = built(server)
    server.answers(lambda request: tagged(request, "a", size="*"))
    assert_right(read(server, index))


def tagged(request: Request, etag: str, size: str | None = None) -> Answer:
    right = request.right(size=size)
    return Answer(206, right.headers | ({"ETag": f'"{etag}"'} if etag else {}), right.body)


@pytest.mark.parametrize("indexed", ["", "a"])
def test_an_etag_that_comes_only_later_is_compared_too(server: Server, indexed: str) -> None:
    server.answers(lambda request: tagged(request, indexed))
    index = built(server)
    server.answers(lambda request: tagged(request, "" if request.nth == 1 else "bc"[request.nth % 2]))
    with pytest.raises(ShardChanged, match=r'shard\.tar:? .* when (opened|indexed).* .*ETag "[bc]" now'):
        read(server, index, rows=(0, 2, 4))


def test_a_range_without_content_range_is_told_as_such(server: Server) -> None:
    server.answers(lambda request: tagged(request, "a"))
    index = built(server)

    def untold(request: Request) -> Answer:
        right = tagged(request, "a")
        return Answer(206, {n: v for n, v in right.headers.items() if n != "Content-Range"}, right.body)

    server.answers(lambda request: untold(request) if request.nth > 1 else tagged(request, "a"))
    with pytest.raises(WrongRange, match="answered by 'no Content-Range'"):
        read(server, index, **ONE)


@pytest.mark.parametrize("measured", [True, False])
def test_a_body_that_trickles_is_left_in_time(server: Server, measured: bool) -> None:
    index = built(server)

    def trickling(request: Request) -> Answer:
        def pieces() -> Iterator[bytes]:
            for byte in b"".join(request.right().body):
                time.sleep(0.02)
                yield bytes([byte])

        right = request.right() if measured else request.unmeasured()
        return right if request.nth == 1 else Answer(206, right.headers, pieces())

    server.answers(trickling)
    access = Access(retry=Retry(1, silence=5.0, longest=0.3))
    with pytest.raises(
        ShardUnreadable, match=r"shard\.tar: bytes \d+-\d+ cannot be read: .*(a timeout|not ended after 0\.3 s)"
    ):
        list(ShardReader(index, plan_of(COUNT, [1, 4]), access=access, merge_gap=0))


def test_who_leaves_does_not_wait_for_a_silent_server_and_asks_no_more(server: Server) -> None:
    index, silent = built(server), threading.Event()

    def waiting(request: Request) -> Answer:
        if request.start > 0:
            silent.wait(20)
        return request.right()

    server.answers(waiting)
    samples = iter(
        ShardReader(
            index, plan_of(COUNT, range(COUNT)), access=Access(retry=Retry(silence=15.0)), merge_gap=0, window=0
        )
    )
    before = time.monotonic()
    next(samples)  # has come, though others are read with it
    del samples
    assert time.monotonic() - before < 10, "a try has 15 seconds, and all have 120"
    asked = server.nth
    silent.set()
    while any(thread.name == "shards" for thread in threading.enumerate()):  # each ends with its request
        time.sleep(0.01)
    assert server.nth == asked


@pytest.mark.parametrize("status", [401, 403])
def test_a_signed_url_that_runs_out_is_told_with_the_remedy(server: Server, status: int) -> None:
    index = built(server)
    server.answers(lambda request: Answer(status) if request.nth > 1 else request.right())
    with pytest.raises(ShardUnreadable, match=r"shard\.tar: .*signed URLs run out: give new ones and resume"):
        read(server, index, **ONE)


@pytest.mark.parametrize("coding", ["", "Identity"])
def test_an_encoding_that_is_none_is_read_however_it_is_spelled(server: Server, coding: str) -> None:
    def answer(request: Request) -> Answer:
        right = request.right()
        return Answer(206, right.headers | {"Content-Encoding": coding}, right.body)

    server.answers(answer)
    assert_right(read(server, built(server)))


def test_a_range_that_a_server_denies_is_asked_for_again(server: Server) -> None:
    index = built(server)
    server.answers(lambda request: Answer(416) if request.nth % 2 == 0 else request.right())
    assert_right(read(server, index, tries=8))


def test_a_range_that_a_server_always_denies_is_told(server: Server) -> None:
    index = built(server)
    server.answers(lambda request: Answer(416) if request.nth > 1 else request.right())
    with pytest.raises(
        WrongRange, match=r"shard\.tar: asked for bytes \d+-\d+, answered by status 416 and 'no Content-R"
    ):
        read(server, index, **ONE)


@pytest.mark.parametrize("status", [204, 300, 302, 304])
def test_an_answer_that_is_neither_the_file_nor_a_range_is_told(server: Server, status: int) -> None:
    server.answers(lambda request: Answer(status))
    with pytest.raises(ShardMissing, match=rf"shard\.tar: cannot be opened: Refused: status {status} .*neither"):
        built(server)


def test_a_range_in_place_of_the_whole_file_is_told(server: Server) -> None:
    def answer(request: Request) -> Answer:
        if request.nth <= 2:  # asked again in another way: is it a web page?
            return Answer(200, {"Content-Length": str(len(request.data))}, [request.data])
        return Request(request.data, 0, 1000, request.nth).right()

    server.answers(answer)
    with pytest.raises(
        WrongRange, match=r"shard\.tar: asked for the whole file, answered by 'bytes 0-999/\d+'\. Have every"
    ):
        built(server)


def test_a_stream_that_has_ended_is_not_asked_for_more(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.answers(lambda request: Answer(200, {}, [request.data]))
    index, access, told = built(server), Access(retry=Retry(1)), list[Exception]()
    server.answers(lambda request: Answer(200, {}, [request.data[:3000]]))
    plan = plan_of(COUNT, range(COUNT))
    reader = ShardReader(index, plan, access=access, window=0, merge_gap=0, handler=lambda e: not told.append(e))
    assert [sample["__index__"] for sample in reader] == [0]
    assert len(told) == COUNT - 1
    assert not caplog.records


@pytest.mark.parametrize("when", ["soon", "-5", "Wed, 21 Oct 99999999999999999999 07:28:00 GMT"])
def test_a_wait_that_cannot_be_understood_is_none(server: Server, when: str) -> None:
    server.answers(lambda request: Answer(429, {"Retry-After": when}) if request.nth == 1 else request.right())
    assert len(built(server)) == COUNT


def test_once_an_answer_had_no_length_each_range_takes_one_request(server: Server) -> None:
    index = built(server)
    server.answers(Request.unmeasured)
    reader = ShardReader(index, plan_of(COUNT, [0, 2, 4]), access=Access(io_threads=1), merge_gap=0)
    assert sorted(s["__index__"] for s in reader) == [0, 2, 4]
    assert server.nth == 1 + 3, "the first one twice"


def test_a_whole_file_in_place_of_a_later_range_is_told_with_the_remedy(server: Server) -> None:
    index = built(server)
    whole = {"Content-Length": str(len((server.folder / "shard-000.tar").read_bytes()))}
    server.answers(lambda request: Answer(200, whole, [request.data]) if request.nth > 1 else request.right())
    with pytest.raises(RangesUnsupported, match=r"shard\.tar: .* after it has served ranges\. Have every machine"):
        list(
            ShardReader(index, plan_of(COUNT, [1, 4]), access=Access(io_threads=1), merge_gap=0)
        )  # one after the other
