"""Passes by Ray's tasks: every share once, merged on the cluster, a worker that dies made good, and errors as they are."""

import os
import pickle
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray

from adaptive_sampler.errors import InvalidValue, WorkerLost
from adaptive_sampler.tables.planning import ray as planning_ray
from adaptive_sampler.tables.planning.engines import TableShare
from adaptive_sampler.tables.planning.ray import AHEAD, FAN, INLINE, RayEngine
from tests.ray.conftest import begin

pytestmark = pytest.mark.usefixtures("cluster")

SHARES = [TableShare(number, ()) for number in range(3 * FAN + 1)]


def seen_in(share: TableShare, length: int) -> np.ndarray:
    """A count of this share, in an array of `length` counts."""
    found = np.zeros(length, np.int64)
    found[share.first] = 1
    return found


def added(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a += b  # in place, as a merge may
    return a


@pytest.mark.parametrize("number", [1, 2, FAN, FAN + 1, 3 * FAN + 1])
def test_every_share_is_looked_at_once_and_what_is_found_is_merged(number: int) -> None:
    found = RayEngine().run(seen_in, SHARES[:number], (40,), added)
    assert found.tolist() == [1] * number + [0] * (40 - number)


def test_what_comes_back_may_be_changed() -> None:
    found = RayEngine().run(seen_in, SHARES[:1], (INLINE,), added)
    found += 1
    assert found[:2].tolist() == [2, 1]


def test_the_bytes_that_came_to_the_driver_are_those_of_one_result_and_of_short_notes() -> None:
    engine, size = RayEngine(), 8 * INLINE
    engine.run(seen_in, SHARES, (INLINE,), added)
    engine.run(seen_in, SHARES[:3], (INLINE,), added)
    for passed, calls in zip(engine.received, (len(SHARES) + 4, 4), strict=True):
        assert size < passed < size + 500 * calls


def test_results_so_small_that_ray_answers_with_them_are_counted_too() -> None:
    engine = RayEngine()
    engine.run(seen_in, SHARES, (1000,), added)
    assert engine.received[0] > len(SHARES) * 8000


def counts_running(share: TableShare, folder: str) -> int:
    """How many calls have begun and not ended."""
    mine = Path(folder) / str(share.first)
    mine.touch()
    running = len(os.listdir(folder))
    mine.unlink()
    return running


def test_no_more_calls_wait_than_the_cluster_has_work_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, call = [], planning_ray._call

    class Noted:
        @staticmethod
        def remote(*arguments: Any) -> Any:
            refs = call.remote(*arguments)
            notes.append(refs[1])
            waiting.append(len(notes) - len(ray.wait(notes, num_returns=len(notes), timeout=0)[0]))
            return refs

    notes: list[Any] = []
    monkeypatch.setattr(planning_ray, "_call", Noted)
    RayEngine().run(seen_in, SHARES, (40,), added)
    assert len(waiting) == len(SHARES)
    assert max(waiting) <= AHEAD * 2


def dies_once(share: TableShare, folder: str) -> np.ndarray:
    marker = Path(folder) / "died"
    if share.first == 5 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return seen_in(share, 40)


def test_a_call_whose_worker_is_killed_is_made_again(tmp_path: Path) -> None:
    found = RayEngine().run(dies_once, SHARES, (str(tmp_path),), added)
    assert (tmp_path / "died").exists()
    assert found.sum() == found[: len(SHARES)].sum() == len(SHARES)


def dies(share: TableShare, folder: str) -> np.ndarray:
    (Path(folder) / str(os.getpid())).touch()
    os.kill(os.getpid(), signal.SIGKILL)
    return seen_in(share, 40)


def test_a_call_whose_worker_dies_each_time_is_given_up_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer = ray.remote(planning_ray._found).options(num_returns=2, max_retries=1)  # a worker takes seconds to start
    monkeypatch.setattr(planning_ray, "_call", fewer)
    with pytest.raises(WorkerLost, match="memory for a call on each CPU"):
        RayEngine().run(dies, SHARES[:1], (str(tmp_path),), added)
    assert len(list(tmp_path.iterdir())) == 2


def odd_fails(share: TableShare, folder: str) -> np.ndarray:
    with (Path(folder) / "calls").open("a") as file:
        file.write(f"{share.first} ")
    if share.first % 2:
        raise InvalidValue(f"share {share.first} has a bad line")
    return seen_in(share, 40)


def test_of_several_errors_the_first_shares_comes_out_as_it_is_and_is_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"^share 1 has a bad line$") as caught:
        RayEngine().run(odd_fails, SHARES, (str(tmp_path),), added)
    assert caught.type is InvalidValue
    calls = (tmp_path / "calls").read_text().split()
    assert len(calls) == len(set(calls)) < len(SHARES)


class NotThere:
    """An argument that no worker can load, as if a package were missing on its node."""

    def __reduce__(self) -> Any:
        return (_found_here, (os.getpid(),))


def _found_here(pid: int) -> None:
    if os.getpid() != pid:
        raise ModuleNotFoundError("No module named 'adaptive_sampler'")


def test_a_node_that_lacks_a_package_is_told_without_a_wall_of_text() -> None:
    with pytest.raises(WorkerLost, match=r"No module named 'adaptive_sampler'.*Each node needs this package") as caught:
        RayEngine().run(seen_in, SHARES[:1], (NotThere(),), added)
    assert "\n" not in str(caught.value)


def test_a_worker_with_another_version_of_the_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning_ray, "installed", lambda: "99.0")
    with pytest.raises(InvalidValue, match=r"made by adaptive-sampler 99.0.*has .*same version on every node"):
        RayEngine().run(seen_in, SHARES[:1], (40,), added)


def test_a_table_in_memory_is_put_into_the_object_store_once(monkeypatch: pytest.MonkeyPatch) -> None:
    put, engine = [], RayEngine()
    original = ray.put
    monkeypatch.setattr(ray, "put", lambda given: put.append(given) or original(given))
    for _ in range(3):
        engine.run(seen_in, SHARES[:2], (40,), added)
    assert len([one for one in put if isinstance(one, TableShare)]) == 2
    assert len(pickle.dumps([one for one in put if not isinstance(one, TableShare)])) < 2000


def of_this_node(share: TableShare) -> None:
    raise FileNotFoundError(2, "No such file or directory", "/data/part.parquet")


def test_a_file_that_a_node_does_not_have_is_told_with_the_node() -> None:
    with pytest.raises(
        InvalidValue, match=r"a worker on [\d.]+ does not find .*/data/part.parquet.*one path on every node"
    ):
        RayEngine().run(of_this_node, SHARES[:1], (), added)


def test_a_slice_of_a_table_takes_the_room_of_the_slice() -> None:
    table = pa.table({"loss": np.zeros(1 << 20)})
    parts = RayEngine().pieces([table.slice(start, 1000) for start in range(0, 3000, 1000)])
    put = ray.put(TableShare(0, tuple(parts)))
    assert ray.experimental.get_object_locations([put])[put]["object_size"] < 50_000


def test_an_engine_goes_on_when_ray_was_shut_down_and_begun_again() -> None:
    engine = RayEngine()
    engine.run(seen_in, SHARES[:2], (40,), added)
    ray.shutdown()
    begin()
    assert engine.run(seen_in, SHARES[:2], (40,), added).sum() == 2
