"""A store whose making was cut off before its first commit: `exist_ok` makes it again, and nothing else is taken for one."""

from pathlib import Path

import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import StoreDamaged
from adaptive_sampler.scoring import Loss
from tests.storage.helpers import filled

N = 5


def cut_off(path: Path, *left: str) -> None:
    """What lies at `path` if the making of a store ends with these files."""
    for name in left:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(b"")


@pytest.mark.parametrize(
    "left",
    [
        ["LOCK"],
        ["LOCK", "v0/loss/value/zarr.json.1a2b.partial"],
        ["LOCK", "v0/zarr.json", "manifests/0.json", "CURRENT.1a2b.partial"],
    ],
)
def test_a_store_whose_making_was_cut_off_is_made_again(tmp_path: Path, left: list[str]) -> None:
    cut_off(tmp_path / "s", *left)
    with ScoreStore.create(tmp_path / "s", N, [Loss()], exist_ok=True) as store:
        store.fold("loss", [1], [2.0])
        assert store.commit() == 1
    with ScoreStore.open(tmp_path / "s", mode="r") as store:
        assert store["loss"][1] == 2


@pytest.mark.parametrize("left", [["v1/zarr.json"], ["manifests/1.json"], ["notes.txt"]])
def test_what_more_than_the_making_left_is_never_made_again(tmp_path: Path, left: list[str]) -> None:
    cut_off(tmp_path / "s", "LOCK", *left)
    with pytest.raises(StoreDamaged, match="there is no CURRENT"):
        ScoreStore.create(tmp_path / "s", N, [Loss()], exist_ok=True)
    assert (tmp_path / "s" / left[0]).exists()


def test_a_store_with_commits_that_lost_its_pointer_is_never_made_again(tmp_path: Path) -> None:
    filled(tmp_path / "s").close()
    (tmp_path / "s" / "CURRENT").unlink()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StoreDamaged, match="there is no CURRENT"):
        ScoreStore.create(tmp_path / "s", N, [Loss()], exist_ok=True)
    assert sorted(tmp_path.rglob("*")) == before
