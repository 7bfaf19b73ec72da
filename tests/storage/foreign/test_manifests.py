"""A manifest that no commit writes is refused, though its checksum is right, and it imports nothing."""

from pathlib import Path
from typing import Any

import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import AdaptiveSamplerError, StoreDamaged
from tests.storage.foreign.changes import JUNK, change_manifest, changed, outside, reseal, use


@pytest.mark.parametrize(
    ("path", "values"),
    [
        (("version",), [*JUNK, 1, 3]),
        (("meta",), [None, 1, [], "meta", {}]),
        (("objects",), [None, 1, [], ["loss/value/c/0"], "objects"]),
        (("objects", "loss/value/c/0"), [*JUNK, [80.0, 1], [80, True], [80, 2**32], [80, -1], {"0": 80}]),
        *(
            (("objects", name), [[1, 2]])
            for name in (
                "../../outside/file",
                "/etc/passwd",
                "loss/../../../file",
                "",
                ".",
                "..",
                "a//b",
                "a/",
                "a\0b",
                "a.b",
            )
        ),
        (("meta", "n"), [*JUNK, 0, 2**62, "20", 20.0, 5, 21]),
        (("meta", "chunk"), [*JUNK, 0, 21, 3, 20.0]),
        (("meta", "scores"), [*JUNK, [None], ["loss"], [{}], [{"kind": "loss"}]]),
        (
            ("meta", "scores", 0, "kind"),
            ["os.system", "subprocess.Popen", "adaptive_sampler.ScoreStore", None, 1, ["loss"], {}],
        ),
        (("meta", "scores", 0, "name"), [None, 1, "", "../loss", "forgetting", "other", ["loss"], {"kind": "loss"}]),
        (
            ("meta", "scores", 0, "fold"),
            [None, 1, "last", {}, {"kind": "loss"}, {"kind": "os.system"}, {"kind": "ema", "decay": "x"}],
        ),
        (("meta", "scores", 0, "extra"), [1]),
        *(
            (("meta", of), [*JUNK, {"loss": 0}, {"loss": 0, "forgetting": 0, "other": 0}])
            for of in ("books", "observations", "observed")
        ),
        *((("meta", of, "loss"), JUNK) for of in ("books", "observed")),
        (("meta", "observations", "loss"), [None, True, -1, 1.5, "1", [], {}]),
        (("meta", "made"), [*JUNK, {"loss": {}, "forgetting": {}}]),
        (
            ("meta", "made", "loss"),
            [*JUNK, {"time": "now", "package": "1"}, {"time": 1.0, "package": 1}, {"time": 1.0}],
        ),
        (("meta", "parent"), [None, True, -2, 2, 1.5, "1", [], {}]),
        (
            ("meta", "plans"),
            [1, "0" * 16, [1], ["../../outside"], ["0" * 15], ["0" * 17], ["A" * 16], [None], {"0" * 16: 1}],
        ),
        (("meta", "runs"), [None, 1, "", [], {}]),
        (("meta", "epoch"), [None, True, -1, 1.5, "1", [], {}]),
        (("meta", "delivered"), [None, True, -1, 1.5, "1", [], {}]),
        (("meta", "metadata"), [None, 1, "x", []]),
        (("meta", "keys"), [None, 0, 1, "no", [], {}]),
        (
            ("meta", "columns"),
            [
                *(junk for junk in JUNK if junk != {}),
                {"loss": "text"},
                {"keys": "text"},
                {"../x": "bool"},
                {"x": "object"},
            ],
        ),
        (("meta", "columns", "source"), [*JUNK, "bool", "complex64", "uint8"]),
        (("meta", "columns", "tokens"), [*JUNK, "text", "int8", "float16"]),
        (("objects", "source/codes/c/0"), [None, [0, 0]]),
        (("meta", "layout"), [True, -1, 1.5, "1", [], {}]),
        (("meta", "created"), [None, True, "now", float("nan"), [], {}]),
        (("meta", "package"), [None, 1, [], {}]),
    ],
)
def test_a_manifest_that_no_commit_writes_is_refused(place: Path, path: tuple[Any, ...], values: list[Any]) -> None:
    files = {name: (place / name).read_bytes() for name in ("CURRENT", "manifests/2.json")}
    before = outside(place)
    for value in values:
        for name, data in files.items():
            (place / name).write_bytes(data)
        change_manifest(place, lambda manifest, value=value: changed(manifest, path, value))
        with pytest.raises(AdaptiveSamplerError):
            use(place)
    assert outside(place) == before


@pytest.mark.parametrize(
    "field",
    [
        *("n", "chunk", "scores", "observations", "observed", "parent", "layout", "keys", "columns", "books"),
        *("epoch", "delivered", "runs", "fingerprint", "metadata", "package", "created", "made"),
    ],
)
def test_a_manifest_that_lacks_something_is_refused(place: Path, field: str) -> None:
    change_manifest(place, lambda manifest: manifest["meta"].pop(field))
    with pytest.raises(StoreDamaged, match="what its manifest says makes no store"):
        ScoreStore.open(place)


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"null", b"[]", b"{}", b"\xff\xfe"])
def test_what_is_no_manifest_is_refused(place: Path, content: bytes) -> None:
    (place / "manifests/2.json").write_bytes(content)
    reseal(place, content)
    with pytest.raises(StoreDamaged, match="the manifest of version 2 is not one"):
        ScoreStore.open(place)


def test_a_description_imports_nothing(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    described = {
        "kind": "custom",
        "type": "trap.Score",
        "name": "loss",
        "fold": {"kind": "custom", "type": "trap.Fold"},
    }
    change_manifest(place, lambda manifest: changed(manifest, ("meta", "scores", 0), described))
    for mode in ("r", "r+"):
        with pytest.raises(AdaptiveSamplerError):
            ScoreStore.open(place, mode=mode)


@pytest.mark.parametrize("plans", [1e300, [[1]], "text", [None]])
def test_plans_that_an_older_manifest_does_not_name_are_no_plans_when_others_are_dropped(
    place: Path, plans: Any
) -> None:
    change_manifest(place, lambda body: changed(body, ("meta", "plans"), plans), version=1)
    with ScoreStore.open(place) as store:
        store.drop_versions(keep=2)
    with pytest.raises(StoreDamaged, match="makes no store"):
        ScoreStore.open(place, version=1, mode="r")
