"""Streams without a store pass what a plan of a table visits, and decode or read nothing else. With the real packages."""

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="PyArrow reads plans of tables")

import pyarrow as pa
from pyarrow import parquet

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.tables import PlannedKeys
from tests.tables.planned.folders import Line, written

N = 30
KEYS = [f"k{row}" for row in range(N)]
VISITED = {"k0": 1, "k11": 3, "k29": 1}


@pytest.fixture
def planned(tmp_path: Path) -> PlannedKeys:
    lines = [Line(key, times, 0.5) for key, times in VISITED.items()]
    return PlannedKeys(written(tmp_path / "plan", lines[:1], [*lines[1:], Line("of another part of the lake")]))


# -- Hugging Face -------------------------------------------------------------------------------------------------------


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The red of each image that was decoded."""
    datasets = pytest.importorskip("datasets")
    decode, seen = datasets.Image.decode_example, []

    def counted(self: Any, *arguments: Any, **more: Any) -> Any:
        image = decode(self, *arguments, **more)
        seen.append(np.asarray(image)[0, 0, 0])
        return image

    monkeypatch.setattr(datasets.Image, "decode_example", counted)
    return seen


def png(red: int) -> bytes:
    image = pytest.importorskip("PIL.Image").fromarray(np.full((2, 2, 3), red, np.uint8))
    image.save(file := io.BytesIO(), "PNG")
    return file.getvalue()


@pytest.fixture
def stream(tmp_path: Path) -> Any:
    """A stream of two Parquet files with a key and an image each line, as a hub's are."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"key": datasets.Value("string"), "image": datasets.Image()})
    images = [{"bytes": png(row), "path": None} for row in range(N)]
    for part in (slice(0, 20), slice(20, N)):
        lines = pa.table({"key": KEYS[part], "image": images[part]}).cast(features.arrow_schema)
        parquet.write_table(lines, tmp_path / f"part-{part.start}.parquet")
    files = [str(tmp_path / f"part-{start}.parquet") for start in (0, 20)]
    return datasets.load_dataset(
        "parquet", data_files=files, streaming=True, split="train", cache_dir=str(tmp_path / "cache")
    )


def visits(planned: PlannedKeys, stream: Any) -> Any:
    """The recipe of the docs."""
    import datasets

    features = datasets.Features({**stream.features, "loss_weight": datasets.Value("float32")})
    return stream.with_format("arrow").map(planned.visited, batched=True, features=features).with_format(None)


def test_a_stream_of_hugging_face_decodes_the_visits_alone(
    planned: PlannedKeys, stream: Any, decoded: list[int]
) -> None:
    samples = list(visits(planned, stream))
    assert Counter(sample["key"] for sample in samples) == VISITED
    assert {sample["loss_weight"] for sample in samples} == {0.5}
    assert decoded == [0, 11, 11, 11, 29]
    assert [np.asarray(sample["image"])[0, 0, 0] for sample in samples] == decoded


def test_a_filter_by_key_alone_would_decode_every_image(planned: PlannedKeys, stream: Any, decoded: list[int]) -> None:
    """Why the recipe goes by Arrow tables: input_columns= names what the function gets, and all columns are decoded for it."""
    samples = list(stream.filter(planned.__contains__, input_columns="key"))
    assert {sample["key"] for sample in samples} == set(VISITED)
    assert len(decoded) == N


def test_a_filter_of_arrow_tables_decodes_what_it_keeps(planned: PlannedKeys, stream: Any, decoded: list[int]) -> None:
    kept = stream.with_format("arrow").filter(lambda lines: (planned.repeats(lines["key"]) > 0).tolist(), batched=True)
    assert [sample["key"] for sample in kept.with_format(None)] == [*VISITED]
    assert len(decoded) == len(VISITED)


def test_a_stream_of_hugging_face_goes_on_from_its_state(planned: PlannedKeys, stream: Any) -> None:
    chosen = visits(planned, stream)
    walk = iter(chosen)
    first = [next(walk)["key"] for _ in range(2)]
    state = chosen.state_dict()
    again = visits(planned, stream)
    again.load_state_dict(state)
    assert Counter(first + [sample["key"] for sample in again]) == VISITED


def test_workers_share_a_stream_of_hugging_face_and_the_keys(planned: PlannedKeys, stream: Any) -> None:
    data = pytest.importorskip("torch.utils.data")
    chosen = visits(planned, stream).select_columns(["key", "loss_weight"]).shuffle(seed=1, buffer_size=3)
    loader = data.DataLoader(chosen, batch_size=2, num_workers=2)
    assert Counter(key for batch in loader for key in batch["key"]) == VISITED


# -- Grain --------------------------------------------------------------------------------------------------------------


class Source:
    """Records that note which of them were read."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return N

    def __getitem__(self, row: int) -> dict[str, Any]:
        self.read.append(int(row))
        return {"key": KEYS[row], "row": int(row)}


def test_grain_reads_the_visits_alone_of_a_source_whose_keys_are_known(planned: PlannedKeys) -> None:
    grain, source = pytest.importorskip("grain"), Source()
    rows = np.repeat(np.arange(N), planned.repeats(KEYS))
    dataset = grain.MapDataset.source(rows).shuffle(seed=1).map(lambda row: source[row])
    assert len(dataset) == 5
    assert Counter(record["key"] for record in dataset) == VISITED
    assert sorted(source.read) == [0, 11, 11, 11, 29]


def test_grain_drops_what_is_not_planned_before_it_is_decoded(planned: PlannedKeys) -> None:
    grain, decoded = pytest.importorskip("grain"), []

    def decode(record: dict[str, Any]) -> dict[str, Any]:
        decoded.append(record["key"])
        return record

    dataset = grain.MapDataset.source(Source()).to_iter_dataset()
    dataset = dataset.filter(lambda record: record["key"] in planned).map(decode)
    assert [record["key"] for record in dataset] == decoded == [*VISITED]


# -- WebDataset ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def urls(tmp_path: Path) -> list[str]:
    pytest.importorskip("webdataset")
    from tests.shards.tars import write_tar

    parts = KEYS[:20], KEYS[20:]
    return [
        str(write_tar(tmp_path / f"{number}.tar", [(f"{key}.bin", key.encode()) for key in keys]))
        for number, keys in enumerate(parts)
    ]


def pipeline(urls: list[str], *stages: Any) -> Any:
    import webdataset
    from webdataset.gopen import gopen
    from webdataset.tariterators import group_by_keys, tar_file_expander

    def samples(sources: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """wds.tarfile_to_samples, but local files are closed again."""
        for source in sources:
            with gopen(source["url"]) as file:
                yield from group_by_keys(tar_file_expander([{"url": source["url"], "stream": file}]))

    return webdataset.DataPipeline(webdataset.SimpleShardList(urls), webdataset.split_by_worker, samples, *stages)


def test_a_pipeline_of_webdataset_decodes_the_visits_alone(planned: PlannedKeys, urls: list[str]) -> None:
    from adaptive_sampler.webdataset import selected

    decoded = []

    def decode(samples: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for sample in samples:
            decoded.append(sample["__key__"])
            sample["bin"] = sample["bin"].decode()  # into the sample itself: a copy made later would hold this
            yield sample

    found = list(pipeline(urls, selected(planned), decode))
    assert Counter(sample["bin"] for sample in found) == VISITED
    assert {sample["__loss_weight__"] for sample in found} == {0.5}
    assert decoded == ["k0", "k11", "k11", "k11", "k29"]


def test_workers_need_no_set_epoch_for_a_plan_that_stays(planned: PlannedKeys, urls: list[str]) -> None:
    from torch.utils.data import DataLoader

    from adaptive_sampler.webdataset import selected

    loader = DataLoader(pipeline(urls, selected(planned)), batch_size=None, num_workers=2)
    for _ in range(2):
        assert Counter(sample["__key__"] for sample in loader) == VISITED


def test_the_keys_of_a_plan_take_no_sampler_and_others_need_one(planned: PlannedKeys) -> None:
    pytest.importorskip("webdataset")
    from adaptive_sampler import AdaptiveSampler, ScoreStore
    from adaptive_sampler.scoring import Loss
    from adaptive_sampler.selection import KeepAll
    from adaptive_sampler.webdataset import selected

    sampler = AdaptiveSampler(ScoreStore.create(None, N, [Loss()]), KeepAll())
    with pytest.raises(InvalidValue, match="PlannedKeys are a plan, and take none"):
        selected(planned, sampler)
    with pytest.raises(InvalidValue, match="an index or keys need an AdaptiveSampler"):
        selected(KEYS)
    assert selected(KEYS, sampler)
