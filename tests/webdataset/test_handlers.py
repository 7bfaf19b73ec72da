"""WebDataset's handlers do what their names say while an index is built: the rest goes on, or what came before stays."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import webdataset as wds

from adaptive_sampler.shards import DuplicateKey, ShardDamaged, ShardError, ShardIndex, ShardMissing, ShardUnsupported
from tests.shards.tars import END, file, header, octal, shards, sparse

PIECES = [file(f"{key}.x", key.encode()) for key in "abcd"]
LINK = header(b"c.y", octal(0), b"1", fields={157: b"a.x"})

# A damaged shard, the keys that stay of it if building goes on, and those that stay if it stops there.
DAMAGED = {
    "gone": (ShardMissing, None, "", ""),
    "cut off": (ShardDamaged, b"".join(PIECES)[: 3 * 1024 + 100], "ab", "ab"),
    "bad header": (ShardDamaged, b"".join([*PIECES[:3], b"\xff" * 512, END]), "ab", "ab"),
    "newline behind the end": (ShardDamaged, b"".join([*PIECES, END, b"\n"]), "abcd", "abcd"),
    "archive behind the end": (ShardDamaged, b"".join([*PIECES, END, file("e.x", b"e"), END]), "abcd", "abcd"),
    "part twice": (DuplicateKey, b"".join([*PIECES[:3], file("c.x", b"2"), PIECES[3], END]), "abcd", "ab"),
    "link": (ShardUnsupported, b"".join([*PIECES[:3], LINK, PIECES[3], END]), "abd", "ab"),
    "hole": (
        ShardUnsupported,
        b"".join([*PIECES[:3], sparse("1.0", "c.y", [(4096, b"y")], 9000), PIECES[3], END]),
        "abd",
        "ab",
    ),
}


@pytest.fixture
def urls(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three sound shards, of which the second is then damaged."""
    monkeypatch.setattr("webdataset.handlers.time.sleep", lambda seconds: None)
    urls = shards(tmp_path, [2, 2, 2])
    data = DAMAGED[request.param][1]
    Path(urls[1]).unlink() if data is None else Path(urls[1]).write_bytes(data)
    return urls


def built(urls: list[str], path: Path, handler: Any) -> tuple[ShardIndex, list[warnings.WarningMessage]]:
    """The index that is built with one of WebDataset's handlers, and what that warned of."""
    with warnings.catch_warnings(record=True, action="always") as told:
        return ShardIndex.build(urls, path, handler=handler), told


BEFORE, AFTER = ["s0/00000", "s0/00001"], ["s2/00000", "s2/00001"]


@pytest.mark.parametrize(("urls", "damage"), [(d, d) for d in DAMAGED], indirect=["urls"])
@pytest.mark.parametrize("warns", [True, False])
def test_continue_keeps_all_but_what_is_lost(tmp_path: Path, urls: list[str], damage: str, warns: bool) -> None:
    index, told = built(urls, tmp_path / "index", wds.warn_and_continue if warns else wds.ignore_and_continue)
    assert index.keys == [*BEFORE, *DAMAGED[damage][2], *AFTER]
    assert len(told) == warns
    assert [d["error"] for d in index.damage] == [DAMAGED[damage][0].__name__]


@pytest.mark.parametrize(("urls", "damage"), [(d, d) for d in DAMAGED], indirect=["urls"])
@pytest.mark.parametrize("warns", [True, False])
def test_stop_keeps_what_comes_before_the_damage(tmp_path: Path, urls: list[str], damage: str, warns: bool) -> None:
    index, told = built(urls, tmp_path / "index", wds.warn_and_stop if warns else wds.ignore_and_stop)
    assert index.keys == [*BEFORE, *DAMAGED[damage][3]]
    assert len(told) == warns
    assert [d["error"] for d in index.damage] == [DAMAGED[damage][0].__name__]


@pytest.mark.parametrize(("urls", "damage"), [(d, d) for d in DAMAGED], indirect=["urls"])
def test_reraise_raises(tmp_path: Path, urls: list[str], damage: str) -> None:
    with pytest.raises(DAMAGED[damage][0]) as raised:
        ShardIndex.build(urls, tmp_path / "index", handler=wds.reraise_exception)
    assert isinstance(raised.value, ShardError)
    assert urls[1] in str(raised.value)
