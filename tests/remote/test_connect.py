"""The store that a URL lies in: what is sent, over how many connections, after a fork, and what is refused."""

import multiprocessing
import os
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.remote.connect import SCHEMES, connect
from tests.web import served

pytest.importorskip("obstore", reason="obstore is not installed (the extra cloud brings it)")

S3 = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region": "us-east-1"}


@dataclass
class Server:
    """A web server whose every file is four bytes, and what it was asked for."""

    address: str
    paths: list[str] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)


@pytest.fixture
def server() -> Iterator[Server]:
    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            seen.paths.append(self.path)
            seen.connections.add(self.client_address)
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"four")

        def log_message(self, *_: Any) -> None: ...

    with served(Answers) as address:
        seen = Server(address)
        yield seen


def read(url: str) -> bytes:
    store, path = connect(url)
    return bytes(store.get(path).bytes())


@pytest.mark.parametrize(
    "path", ["/a/b.tar", "/a%2Fb%3A.tar", "/b.tar?sig=a%2Fb%3Ac%7Ed%27e", "/a//b", "/a/", "/", "", "/%C3%BC+(1)~'.tar"]
)
def test_a_url_is_sent_as_it_is_given(server: Server, path: str) -> None:
    assert read(server.address + path) == b"four"
    assert server.paths == [path or "/"]


def test_the_files_of_a_server_share_its_connections(server: Server) -> None:
    assert {read(f"{server.address}/{n}.tar") for n in range(20)} == {b"four"}
    assert len(server.connections) < 5, "a connection is free again only a moment after its answer was read"


def test_a_url_that_goes_as_given_keeps_its_own_connections(server: Server) -> None:
    assert {read(f"{server.address}/a.tar?signed=%2F") for n in range(20)} == {b"four"}
    assert len(server.connections) < 5


def _read_in_a_child(url: str, deeper: int, answers: Any) -> None:
    answers.put(read(url))
    if deeper:
        forked(url, deeper - 1, answers)


def forked(url: str, deeper: int, answers: Any) -> None:
    child = multiprocessing.get_context("fork").Process(target=_read_in_a_child, args=(url, deeper, answers))
    child.start()
    child.join(30)
    child.kill()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_ends_no_store_of_its_parent_as_that_may_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    ends, told = os.pipe()
    parent = os.getpid()

    class Store:
        def __del__(self) -> None:
            if os.getpid() != parent:
                os.write(told, b"ended")

    monkeypatch.setattr("adaptive_sampler.remote.connect._Stores._made", lambda *_: Store())
    connect("http://ends-with-its-process.invalid/a")
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    os.close(told)
    assert os.read(ends, 5) == b""
    os.close(ends)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_after_a_fork_children_and_theirs_read_too_though_the_parent_had_read(server: Server) -> None:
    read(f"{server.address}/parent")
    answers = multiprocessing.get_context("fork").SimpleQueue()
    forked(f"{server.address}/child", 1, answers)
    assert [answers.get() for _ in range(2) if not answers.empty()] == [b"four"] * 2
    assert read(f"{server.address}/parent") == b"four"


def test_equal_calls_get_one_store_others_get_their_own() -> None:
    one, path = connect("s3://bucket/a/b.tar", S3)
    assert path == "a/b.tar"
    assert connect("s3://bucket/c", dict(reversed(S3.items())))[0] is one
    assert connect("s3://bucket/c", {**S3, "region": "eu-west-1"})[0] is not one
    assert connect("s3://bucket/c", S3, retry={"max_retries": 0})[0] is not one
    assert connect("s3://other/c", S3)[0] is not one


def test_an_endpoint_without_tls_is_allowed_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def allowed(**options: Any) -> bool:
        return bool(connect("s3://bucket/a", {**S3, **options})[0].client_options.get("allow_http"))  # type: ignore[union-attr]

    assert not allowed()
    assert allowed(endpoint="http://localhost:1")
    assert not allowed(endpoint="https://localhost:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:2")
    assert allowed(region="us-west-1")


def test_memory_is_the_same_for_a_whole_process() -> None:
    store, path = connect("memory://here/a")
    store.put(path, b"x")
    again, _ = connect("memory://here/b")
    assert bytes(again.get("a").bytes()) == b"x"


@pytest.mark.parametrize("scheme", sorted(set(SCHEMES) - {"http", "https", "memory"}))
def test_every_scheme_has_a_bucket_and_a_path(scheme: str) -> None:
    options = {"account_name": "name"} if SCHEMES[scheme] == "AzureStore" else {}
    store, path = connect(f"{scheme}://bucket/a b%2F?#.tar", options)
    assert type(store).__name__ == SCHEMES[scheme]
    assert path == "a b%2F?#.tar"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (
            "nope://bucket/a",
            r"nope://bucket/a: nothing is known that reads nope://\. Give a local path, or a URL of http",
        ),
        ("a/b.tar", r"a/b\.tar: nothing is known that reads it"),
        ("s3:///a", r"s3:///a: names no bucket\. Write s3://bucket/path"),
        ("az://", r"az://: names no container"),
        ("http:///a", r"http:///a: names no host"),
        ("s3://bucket/a//b", r"has an empty part, '\.' or '\.\.' in its path"),
        ("s3://bucket//a", r"has an empty part"),
        ("s3://bucket/a/../b", r"has an empty part, '\.' or '\.\.'"),
    ],
)
def test_what_is_no_place_is_refused(url: str, words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        connect(url)


@pytest.mark.parametrize("options", [{"nope": 1}, {"client_options": {"nope": 1}}])
def test_options_that_obstore_does_not_know_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue, match=r"s3://bucket: obstore does not take it with the options \['\w+'\]: .*nope"):
        connect("s3://bucket/a", options)


def test_an_account_that_is_missing_is_told() -> None:
    with pytest.raises(InvalidValue, match=r"az://container: obstore does not take it .*Account must be specified"):
        connect("az://container/a")


def test_without_obstore_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "obstore.store", None)
    with pytest.raises(ImportError, match=r'pip install "adaptive-sampler\[cloud\]"'):
        connect("s3://a-bucket-of-its-own/a", S3)


def test_a_store_is_not_sent_to_another_process_but_what_names_it_is() -> None:
    options = {**S3, "client_options": {"user_agent": "me"}}
    assert pickle.loads(pickle.dumps(options)) == options


@pytest.mark.parametrize(
    "options", [{"allow_http": True}, {"client_options": 1}, {1: "a"}, "abc", [("region", "a")]], ids=repr
)
def test_options_that_obstore_cannot_even_refuse_are_refused(options: Any) -> None:
    with pytest.raises(InvalidValue, match="options"):
        connect("s3://bucket/x", options)


def test_another_environment_gives_another_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "old")
    first, _ = connect("s3://bucket/x", S3)
    assert connect("s3://bucket/y", S3)[0] is first
    monkeypatch.setenv("AWS_SESSION_TOKEN", "new")
    assert connect("s3://bucket/x", S3)[0] is not first
