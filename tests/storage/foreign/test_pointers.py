"""A pointer that no commit writes is refused, though its checksum is right."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import StoreDamaged, StoreError
from adaptive_sampler.scoring import Loss
from adaptive_sampler.storage.local import LocalStorage
from adaptive_sampler.storage.pointer import MOST, decoded
from tests.storage.foreign.changes import JUNK, N, change_pointer, changed


@pytest.mark.parametrize(
    ("path", "values"),
    [
        (("format",), [None, -1, 0, "1", 1.0, True, []]),
        (("uuid",), [None, 1, [], {}]),
        (("head",), [*JUNK, 0, 1, 3, 2.0]),
        (("highest",), [*JUNK, 0, 1, 2.0]),
        (("versions",), [*JUNK, [None], [{}]]),
        (("versions", 1, "version"), [*JUNK, 0, 2, 7]),
        (("versions", 1, "time"), [None, True, float("nan"), float("inf"), "1", [], {}]),
        (("versions", 1, "note"), [None, 1, [], {}]),
        (("versions", 1, "pinned"), [None, 0, 1, "no", [], {}]),
        (("versions", 1, "observed"), [None, True, -1, 1.5, "1", [], {}]),
        (("versions", 1, "manifest"), [*JUNK, [1, 2, 3], [1.0, 2], [-1, 2], [1, 2**32], [True, 2], "ab"]),
        (("versions", 1, "more"), [1]),
    ],
)
def test_a_pointer_that_no_commit_writes_is_refused(place: Path, path: tuple[Any, ...], values: list[Any]) -> None:
    current = (place / "CURRENT").read_bytes()
    for value in values:
        (place / "CURRENT").write_bytes(current)
        change_pointer(place, lambda body, value=value: changed(body, path, value))
        for mode in ("r", "r+"):
            with pytest.raises(StoreDamaged, match="CURRENT is not what a commit wrote"):
                ScoreStore.open(place, mode=mode)


def test_a_store_without_a_number_for_another_version_stays_readable(place: Path) -> None:
    change_pointer(place, lambda body: changed(body, ("highest",), MOST))
    with ScoreStore.open(place) as store:
        store.fold("loss", [0], [5])
        with pytest.raises(StoreError, match=r"no number left for another version.*ScoreStore\.create"):
            store.commit()
        store.drop_versions(keep=1)
    assert ScoreStore.open(place, mode="r")["loss"][0] == 2
    ScoreStore.create(place.parent / "new", N, [Loss()]).close()  # the remedy


@pytest.mark.parametrize("content", ["", "[" * 100_000, "1e400", '"' + "x" * 100, "null", "[]", '{"format": 1}', "\0"])
def test_what_is_no_pointer_is_refused(place: Path, content: str) -> None:
    (place / "CURRENT").write_text(content)
    with pytest.raises(StoreDamaged, match="CURRENT is not what a commit wrote"):
        ScoreStore.open(place)


def test_a_number_that_is_read_is_the_number_that_was_written(place: Path) -> None:
    pointer = decoded((place / "CURRENT").read_bytes(), "here")
    assert decoded(replace(pointer, highest=9).encoded(), "here") == replace(pointer, highest=9)
    assert LocalStorage(place).pointer() == (place / "CURRENT").read_bytes()
