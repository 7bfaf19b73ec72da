"""A store in an object store, a real S3 server: what is so on a disk is so there."""

import http.server
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.errors import InvalidValue, StoreDamaged, StoreError
from adaptive_sampler.remote.objects import Objects
from adaptive_sampler.scoring import EL2N, Loss
from adaptive_sampler.selection import Prune
from adaptive_sampler.shards import ShardIndex
from adaptive_sampler.storage import object_links
from adaptive_sampler.storage.objects import ObjectStorage
from adaptive_sampler.testing import check_storage
from tests.shards.tars import shards
from tests.storage.helpers import filled, three
from tests.storage.proxy import Proxy
from tests.web import served

pytest.importorskip("obstore", reason="obstore is not installed (the extra cloud brings it)")
N = 5


def storage_of(store: ScoreStore) -> ObjectStorage:
    storage = store.session.files.storage
    assert isinstance(storage, ObjectStorage)
    return storage


def group_at(url: str) -> Any:
    """The group that zarr's own store finds at a URL, by a client that knows nothing of this package."""
    import zarr
    from obstore.store import from_url
    from zarr.storage import ObjectStore

    return zarr.open_group(ObjectStore(from_url(url, client_options={"allow_http": True}), read_only=True), mode="r")


def test_it_does_what_every_storage_must(place: str) -> None:
    numbers = iter(range(100))
    check_storage(lambda: ObjectStorage(f"{place}/{next(numbers)}"), lambda storage: ObjectStorage(storage.where))


def test_a_store_is_opened_as_it_was_committed(place: str) -> None:
    with ScoreStore.create(place, 4, [Loss()], keys="abcd", columns={"of": list("xyzz")}) as store:
        store.fold("loss", [1], [2.0])
        assert store.commit("first") == 1
        store.fold("loss", [2], [3.0])
    with ScoreStore.open(place) as again:
        assert again["loss"][1] == 2
        assert np.isnan(again["loss"][2])
        assert again.rows(["d"]).tolist() == [3]
        assert again.columns["of"].tolist() == list("xyzz")
        assert again.path == place
        assert [version.note for version in again.versions()] == ["first"]


def test_versions_are_kept_pinned_and_dropped(place: str) -> None:
    store = three(place)
    store.drop_versions(keep=1)
    assert [version.version for version in store.versions()] == [2, 3]
    for version in (2, 3):
        with ScoreStore.open(place, version=version, mode="r") as reader:
            assert reader["loss"][0] == 10 * version
    assert storage_of(store).names() == ["CURRENT", "LOCK", "manifests", "v2", "v3"]
    store.close()


def test_any_zarr_client_reads_a_version(place: str) -> None:
    with three(place) as store:
        for version in (1, 2, 3):
            group = group_at(f"{place}/v{version}")
            assert group["loss/value"][0] == (0 if version == 1 else 10 * version)
            assert np.array_equal(group["el2n/value"][:], store["el2n"])


def test_credentials_may_be_given_as_options(
    place: str, server: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in server:
        monkeypatch.delenv(name)
    options = {name.lower(): value for name, value in server.items() if name not in ("AWS_EC2_METADATA_DISABLED",)}
    options.pop("aws_allow_http")
    with ScoreStore.create(place, 3, [Loss()], options=options) as store:
        store.fold("loss", [0], [1.0])
        store.commit()
        assert pickle.loads(pickle.dumps(store))["loss"][0] == 1
        with ScoreStore.merge(f"{place}-merged", [store], options=options) as merged:
            assert merged["loss"][0] == 1
    with ScoreStore.open(place, mode="r", options=options) as again:
        assert again["loss"][0] == 1


def test_a_store_is_made_of_a_table_and_a_report_of_it_is_shown(place: str, server: dict[str, str]) -> None:
    arrow = pytest.importorskip("pyarrow")
    pytest.importorskip("typer")
    options = {"aws_access_key_id": server["AWS_ACCESS_KEY_ID"]}
    ScoreStore.from_table(place, arrow.table({"loss": [1.0, 2.0]}), [Loss()], options=options).close()
    shown = subprocess.run(
        [sys.executable, "-m", "adaptive_sampler", "info", place], capture_output=True, text=True, check=True
    )
    assert "2 rows" in shown.stdout
    assert "made from a table" in shown.stdout


def test_options_without_an_object_store_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="options are an object store's"):
        ScoreStore.create(tmp_path / "s", 3, [Loss()], options={"region": "x"})
    with pytest.raises(InvalidValue, match="Pass them with a path"):
        ScoreStore.open(options={"region": "x"})


def test_a_url_that_was_made_a_path_is_refused_and_makes_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidValue, match="this was a URL before it became a path"):
        ScoreStore.create(Path("s3://bucket/scores"), 3, [Loss()])
    assert list(tmp_path.iterdir()) == []


def test_a_training_is_resumed_by_its_states(place: str) -> None:
    with ScoreStore.create(place, 20, [Loss()]) as store:
        store.fold("loss", np.arange(20), np.arange(20.0))
        sampler = AdaptiveSampler(store, Prune(0.5, "loss"))
        walk = iter(sampler)
        first = [next(walk) for _ in range(4)]
        state = sampler.state_dict()
        store.commit()
        rest = list(walk)
    with ScoreStore.open(place) as again:
        resumed = AdaptiveSampler(again, Prune(0.5, "loss"))
        resumed.load_state_dict(state)
        assert list(resumed) == rest
        assert sorted(first + rest) == list(range(10, 20))


def read_in_child(store: ScoreStore, place: str, said: Any) -> None:
    with ScoreStore.open(place, mode="r") as reader:
        said.put((store["loss"][3], reader["loss"][3]))


def test_a_forked_child_reads_and_a_spawned_one_gets_the_store_sent(place: str) -> None:
    filled(place).close()
    with ScoreStore.open(place) as store:
        fork = multiprocessing.get_context("fork")
        said = fork.Queue()
        child = fork.Process(target=read_in_child, args=(store, place, said))
        child.start()
        assert said.get(timeout=60) == (3, 3)
        child.join()
        assert child.exitcode == 0
        assert pickle.loads(pickle.dumps(store))["loss"][3] == 3
        assert store.commit() == 2  # and the child did not give the parent's lease back


# -- what versions share -------------------------------------------------------------------------------------------------


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything counts as too large to be copied within a commit."""
    monkeypatch.setattr(object_links, "SMALL", -1)


@contextmanager
def nothing_copied() -> Iterator[None]:
    """And nothing is copied behind it, as if the process were killed at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(object_links, "SMALL", -1)
        for name in ("settle_behind", "settle"):
            patch.setattr(object_links.Links, name, lambda self: None)
        yield


def two_versions(place: str) -> ScoreStore:
    """Two versions that share the scores, and the description of everything, but for those of loss."""
    store = ScoreStore.create(place, N, [EL2N(), Loss()])
    store.fold("el2n", np.arange(N), np.arange(N))
    store.fold("loss", np.arange(N), np.full(N, 1))
    store.commit()
    store.fold("loss", np.arange(N), np.full(N, 2))
    store.commit()
    return store


def test_a_version_whose_shared_objects_are_not_copied_yet_is_read(place: str) -> None:
    with nothing_copied(), two_versions(place):
        assert "el2n" not in Objects(place).names("v2")
        with ScoreStore.open(place, mode="r") as reader:
            assert reader["el2n"].tolist() == list(range(N))
            assert (reader["loss"] == 2).all()


def test_until_then_another_client_finds_no_version_instead_of_one_with_holes(place: str) -> None:
    with nothing_copied(), two_versions(place):
        for group in ("v2", "v2/el2n"):
            with pytest.raises(FileNotFoundError):
                group_at(f"{place}/{group}")


def test_what_is_shared_is_copied_behind_the_commit(place: str, large: None) -> None:
    with two_versions(place) as store:
        storage_of(store).settle()
        assert group_at(f"{place}/v2")["el2n/value"][:].tolist() == list(range(N))
        assert Objects(place).names("LINKS") == []


def test_it_is_copied_before_the_store_is_closed(place: str, large: None) -> None:
    two_versions(place).close()
    assert group_at(f"{place}/v2")["el2n/value"][:].tolist() == list(range(N))


def test_the_next_writer_copies_what_a_killed_one_did_not(place: str) -> None:
    with nothing_copied():
        two_versions(place).close()
    with ScoreStore.open(place) as store:
        store.commit(keep=1)
        storage_of(store).settle()
        assert group_at(f"{place}/v3")["el2n/value"][:].tolist() == list(range(N))
        store.commit(keep=1)
        assert storage_of(store).names() == ["CURRENT", "LOCK", "manifests", "v4"]


def test_a_forked_child_reads_what_is_noted_after_the_fork(place: str) -> None:
    """A worker that lives through a training opens each version by the storage that it was forked with."""
    with nothing_copied(), two_versions(place) as store:
        opener = store.session.opener(ScoreStore.open)
        fork = multiprocessing.get_context("fork")
        go, said = fork.Event(), fork.Queue()
        child = fork.Process(target=read_later, args=(opener, go, said))
        child.start()
        store.fold("loss", np.arange(N), np.full(N, 3))
        store.commit()
        go.set()
        assert said.get(timeout=60) == ([0, 1, 2, 3, 4], [3] * N)
        child.join()


def read_later(opener: Any, go: Any, said: Any) -> None:
    go.wait()
    with opener() as reader:
        said.put((reader["el2n"].tolist(), reader["loss"].tolist()))


def test_a_version_that_a_later_one_shares_with_is_not_deleted_before_that_has_a_copy(place: str) -> None:
    with nothing_copied(), two_versions(place) as store:
        store.drop_versions(keep=1)
        assert "v1" in storage_of(store).names()
        with ScoreStore.open(place, mode="r") as reader:
            assert reader["el2n"].tolist() == list(range(N))


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"v2/el2n/value/c/0": 1}'])
def test_a_note_of_what_is_shared_that_was_changed_is_told(place: str, data: bytes) -> None:
    with nothing_copied(), two_versions(place):
        Objects(place).put("LINKS/v2", [data])
        with pytest.raises(StoreDamaged, match="LINKS/v2 is not what a commit wrote"):
            ScoreStore.open(place, mode="r")["el2n"]


def test_a_group_that_cannot_be_copied_now_keeps_no_other_back(place: str, proxy: Proxy, large: None) -> None:
    with ScoreStore.create(place, N, [EL2N(), Loss()], options=proxy.options) as store:
        store.fold("el2n", np.arange(N), np.arange(N))
        for value in (1, 2):
            store.fold("loss", np.arange(N), np.full(N, value))
            proxy.rule = lambda method, path: 503 if method == "PUT" and "v2/el2n" in path else None
            store.commit()
        storage_of(store).settle()
        store.fold("loss", np.arange(N), np.full(N, 3))
        store.commit()
        storage_of(store).settle()
        assert group_at(f"{place}/v3")["el2n/value"][:].tolist() == list(range(N))
        with pytest.raises(FileNotFoundError):
            group_at(f"{place}/v2")
        with ScoreStore.open(place, version=2, mode="r") as reader:
            assert reader["el2n"].tolist() == list(range(N))
        proxy.rule = lambda method, path: None
    assert group_at(f"{place}/v2")["el2n/value"][:].tolist() == list(range(N))


def test_nothing_of_a_commit_that_failed_comes_later(place: str, proxy: Proxy, large: None) -> None:
    """Its objects that are shared, with the old scores, must not be copied over those of the commit that is repeated."""
    with ScoreStore.create(place, N, [EL2N(), Loss()], options=proxy.options) as store:
        store.fold("el2n", np.arange(N), np.full(N, 1))
        store.fold("loss", np.arange(N), np.full(N, 1))
        store.commit()
        store.fold("loss", np.arange(N), np.full(N, 2))
        proxy.rule = lambda method, path: 503 if (method == "PUT" and "manifests" in path) or method == "GET" else None
        with pytest.raises(StoreError, match="503"):
            store.commit()
        store.fold("el2n", np.arange(N), np.full(N, 2))
        proxy.rule = lambda method, path: None
        store.commit()
    for name in ("el2n", "loss"):
        assert np.array_equal(group_at(f"{place}/v2")[f"{name}/value"], store[name])


# -- indexes, and web servers --------------------------------------------------------------------------------------------


def test_an_index_of_shards_is_published_and_opened(place: str, tmp_path: Path) -> None:
    index = ShardIndex.build(shards(tmp_path, [3, 3], 100), f"{place}/index")
    assert ShardIndex.open(f"{place}/index").keys[:] == index.keys[:]
    assert len(pickle.loads(pickle.dumps(index))) == 6


def test_an_index_takes_credentials_as_options_and_workers_get_them(
    place: str, server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in server:
        monkeypatch.delenv(name, raising=False)
    options = {name.lower(): server[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")}
    options["endpoint"] = server["AWS_ENDPOINT_URL"]
    built = ShardIndex.build(shards(tmp_path, [3], 100), f"{place}/index", options=options)
    again = ShardIndex.open(f"{place}/index", options=options)
    assert pickle.loads(pickle.dumps(again)).keys == built.keys
    with pytest.raises(InvalidValue, match="options are an object store's"):
        ShardIndex.open(tmp_path, options=options)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and says nothing."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a web server of the folder tmp_path/web."""
    (tmp_path / "web").mkdir()
    with served(partial(Quiet, directory=tmp_path / "web")) as address:
        yield address


def test_a_store_and_an_index_on_a_web_server_are_read(web: str, tmp_path: Path) -> None:
    filled(tmp_path / "web" / "s", keys=[f"k{i}" for i in range(100)]).close()
    ShardIndex.build(shards(tmp_path, [3], 100), tmp_path / "web" / "index")
    with ScoreStore.open(f"{web}/s", mode="r") as store:
        assert store["loss"].tolist() == list(range(100))
        assert store.rows(["k7"]).tolist() == [7]
    assert len(ShardIndex.open(f"{web}/index")) == 3


def test_a_web_server_takes_no_store(web: str, tmp_path: Path) -> None:
    filled(tmp_path / "web" / "s").close()
    for call in (lambda: ScoreStore.open(f"{web}/s"), lambda: ScoreStore.create(f"{web}/t", 3, [Loss()])):
        with pytest.raises(StoreError, match="is on a web server, where nothing can be written"):
            call()
    with pytest.raises(StoreError, match="holds no store: nothing is there"):
        ScoreStore.open(f"{web}/none", mode="r")
