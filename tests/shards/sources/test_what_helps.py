"""Where a remote shard does not open, or breaks off, the message says what helps in that case."""

from pathlib import Path

import pytest

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.shards import Access, Retry, ShardDamaged, ShardIndex, ShardMissing, ShardReader
from adaptive_sampler.shards.sources.base import told
from tests.shards.sources.test_answers import COUNT, Answer, Request, Server, built, read
from tests.shards.sources.test_answers import server as server  # a fixture
from tests.shards.tars import plan_of

ONCE = Access(retry=Retry(2, 0))


def test_a_server_that_does_not_answer_is_tried_again_later(server: Server) -> None:
    server.answers(lambda request: Answer(503, {"Content-Length": "0"}))
    with pytest.raises(ShardMissing, match=r"status 503 .*Try again when its server answers, or mend the URL"):
        built(server)


def test_a_server_that_asks_for_more_patience_is_told_with_how_long(server: Server) -> None:
    server.answers(lambda request: Answer(429, {"Content-Length": "0", "Retry-After": "1000"}))
    with pytest.raises(ShardMissing, match=r"status 429 .*\(Retry-After: 1000\)"):
        built(server)


def test_redirects_in_a_circle_are_told_as_such(server: Server) -> None:
    server.answers(lambda request: Answer(302, {"Location": server.url, "Content-Length": "0"}))
    with pytest.raises(ShardMissing, match="Its redirects lead round in a circle: give the URL of the shard itself"):
        built(server)


def test_redirects_in_a_circle_are_followed_once(server: Server) -> None:
    server.answers(lambda request: Answer(302, {"Location": server.url, "Content-Length": "0"}))
    with pytest.raises(ShardMissing):
        built(server, tries=5)
    assert server.nth == 11


def test_a_shard_that_is_gone_is_to_be_put_back(server: Server) -> None:
    server.answers(lambda request: Answer(404, {"Content-Length": "0"}))
    with pytest.raises(ShardMissing, match="Put the shard back"):
        built(server)


def test_a_page_to_sign_in_amid_an_epoch_is_told_as_such(server: Server) -> None:
    index = built(server)
    page = Answer(200, {"Content-Type": "text/html", "Content-Length": "4"}, [b"<p>!"])
    server.answers(lambda request: request.right() if request.nth == 1 else page)
    with pytest.raises(ShardMissing, match="is a web page"):
        read(server, index, io_threads=1)


def test_a_stream_that_ends_early_is_told_as_cut_off(server: Server) -> None:
    def half(request: Request) -> Answer:
        return Answer(200, {"ETag": '"one"'}, [request.data[: len(request.data) // 2]])

    server.answers(lambda request: Answer(200, {"ETag": '"one"'}, [request.data]))
    index = built(server)
    server.answers(half)
    with pytest.raises(ShardDamaged, match=r"cut off within sample .*Fetch the shard again"):
        list(ShardReader(index, plan_of(COUNT, [4, 5]), access=ONCE))


def test_an_address_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"^http://\[::1: obstore does not take it"):
        ShardIndex.build(["http://[::1/a.tar"], tmp_path / "index", access=ONCE)


def test_of_an_object_stores_xml_the_code_is_told() -> None:
    xml = '<?xml version="1.0"?>\n<Error><Code>NoSuchKey</Code><RequestId>wj4on1c</RequestId></Error>'
    assert told(OSError(f"404 Not Found: {xml}")) == "OSError: 404 Not Found: NoSuchKey"
