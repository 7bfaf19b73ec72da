"""The same keys and bytes as wds.WebDataset, on any tar."""

import io
import tarfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import webdataset as wds
from hypothesis import given, settings
from hypothesis import strategies as st
from webdataset.tariterators import group_by_keys, tar_file_expander

from adaptive_sampler.shards import ShardIndex, ShardReader
from tests.shards.tars import plan_of, write_tar

Samples = list[dict[str, Any]]


def by_webdataset(urls: list[str]) -> Samples:
    # The stages of wds.WebDataset behind its opener, which leaves files open.
    with ExitStack() as stack:
        sources = [{"url": url, "stream": stack.enter_context(Path(url).open("rb"))} for url in urls]
        members = tar_file_expander(sources, handler=wds.ignore_and_continue)
        return list(group_by_keys(members, handler=wds.ignore_and_continue))


def by_index(urls: list[str], folder: Path) -> Samples:
    index = ShardIndex.build(urls, folder / "index", handler=wds.ignore_and_continue)
    n = len(index)
    samples = list(ShardReader(index, plan_of(n, range(n)), window=0))
    assert [s.pop("__index__") for s in samples] == list(range(n))
    assert [s.pop("__loss_weight__") for s in samples] == [1.0] * n
    return samples


# Pieces that make keys meet, repeat and interleave, extensions differ by case only, and metadata appear.
keys = st.sampled_from(["a", "b", "a/b", "a.d/b", "__meta__", "__x", "d/__y__", "ü", ""])
parts = st.sampled_from(["x", "X", "y.z", "jpg", "", "x_", "__", "__key__"])
names = st.builds("{}.{}".format, keys, parts) | st.sampled_from(["noext", "a/noext", ".hidden", "a", "__n__"])


@settings(max_examples=60, deadline=None)
@given(
    shards=st.lists(st.lists(st.tuples(names, st.binary(max_size=600)), max_size=9), min_size=1, max_size=3),
    format=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_on_generated_tars(
    tmp_path_factory: pytest.TempPathFactory, shards: list[list[tuple[str, bytes]]], format: int
) -> None:
    folder = tmp_path_factory.mktemp("tars")
    urls = [str(write_tar(folder / f"{i}.tar", members, format)) for i, members in enumerate(shards)]
    assert by_index(urls, folder) == by_webdataset(urls)


def test_on_shards_by_shardwriter(tmp_path: Path) -> None:
    with wds.ShardWriter(str(tmp_path / "s-%02d.tar"), maxcount=7, verbose=False) as writer:
        for i in range(20):
            writer.write({"__key__": f"deep/{'k' * 90}/{i:04d}", "cls": i, "txt": "ä" * i, "bin": bytes(i * 50)})
    urls = sorted(map(str, tmp_path.glob("*.tar")))
    samples = by_index(urls, tmp_path)
    assert len(samples) == 20
    assert samples == by_webdataset(urls)


def test_members_that_are_no_files_are_passed_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name in ("a.x", "a.dir", "a.y"):
            info = tarfile.TarInfo(name)
            if name == "a.dir":
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            else:
                info.size = 2
                archive.addfile(info, io.BytesIO(b"12"))
    urls = [str(tmp_path / "x.tar")]
    assert by_index(urls, tmp_path) == by_webdataset(urls)
