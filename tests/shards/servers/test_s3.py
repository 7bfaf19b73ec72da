"""Shards in a real S3 server: whole and multipart uploads, changes, and what is no shard."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adaptive_sampler.shards import (
    Access,
    Energon,
    Retry,
    ShardChanged,
    ShardDamaged,
    ShardIndex,
    ShardMissing,
    ShardReader,
    ShardUnreadable,
)
from tests.shards.others import prepared
from tests.shards.servers.s3 import BUCKET, environment, s3
from tests.shards.tars import body, plan_of, shards
from tests.storage.proxy import EXPIRED, proxy_of

pytest.importorskip("moto", reason="moto is not installed (the extra dev brings it)")
pytest.importorskip("obstore", reason="obstore is not installed (the extra cloud brings it)")

COUNT, SIZE = 6, 4_000
MULTIPART = 5 << 20  # bytes: S3 takes no smaller part but the last
URLS = f"s3://{BUCKET}/train/shard-00{{0..1}}.tar"
ACCESS = Access(retry=Retry(2, 0))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server with two shards under train/, for tests that change nothing in it."""
    folder = tmp_path_factory.mktemp("shards")
    with s3() as client, pytest.MonkeyPatch.context() as patch:
        for name, value in environment(client).items():
            patch.setenv(name, value)
        for path in map(Path, shards(folder, [COUNT] * 2, SIZE)):
            client.upload_file(str(path), BUCKET, f"train/{path.name}")
        yield client


def read(index: ShardIndex, rows: range) -> list[int]:
    samples = list(ShardReader(index, plan_of(len(index), rows), window=0, access=ACCESS))
    assert all(len(s["bin"]) >= SIZE and s["bin"] == body(s["__key__"], len(s["bin"])) for s in samples)
    return [s["__index__"] for s in samples]


def test_kept_samples_are_read(client: Any, tmp_path: Path) -> None:
    index = ShardIndex.build(URLS, tmp_path / "index", access=ACCESS)
    assert len(index) == 2 * COUNT
    assert read(index, range(1, 12, 3)) == [1, 4, 7, 10]


def test_a_shard_uploaded_in_parts_is_read(client: Any, tmp_path: Path) -> None:
    (path,) = shards(tmp_path, [3], 3 << 20)
    data = Path(path).read_bytes()
    target = {"Bucket": BUCKET, "Key": "parts.tar"}
    upload = client.create_multipart_upload(**target)["UploadId"]
    parts = []
    for number, start in enumerate(range(0, len(data), MULTIPART), 1):
        part = data[start : start + MULTIPART]
        etag = client.upload_part(**target, UploadId=upload, PartNumber=number, Body=part)["ETag"]
        parts.append({"ETag": etag, "PartNumber": number})
    client.complete_multipart_upload(**target, UploadId=upload, MultipartUpload={"Parts": parts})
    assert client.head_object(**target)["ETag"].endswith('-2"'), "no checksum of the bytes: it counts the parts"
    index = ShardIndex.build(f"s3://{BUCKET}/parts.tar", tmp_path / "index", access=ACCESS)
    assert read(index, range(3)) == [0, 1, 2]


def test_a_shard_that_is_replaced_by_one_of_the_same_size_is_told(client: Any, tmp_path: Path) -> None:
    data = Path(shards(tmp_path, [2], SIZE)[0]).read_bytes()
    target = {"Bucket": BUCKET, "Key": "changing.tar"}
    client.put_object(**target, Body=data)
    index = ShardIndex.build(f"s3://{BUCKET}/changing.tar", tmp_path / "index", access=ACCESS)
    client.put_object(**target, Body=data[:-1] + b"\1")
    with pytest.raises(ShardChanged, match=r"s3://shards/changing\.tar has changed"):
        read(index, range(2))


def test_an_object_that_is_replaced_between_two_requests_is_told(client: Any, tmp_path: Path) -> None:
    data = Path(shards(tmp_path, [2], SIZE)[0]).read_bytes()
    target = {"Bucket": BUCKET, "Key": "replaced.tar"}
    client.put_object(**target, Body=data)
    source = ACCESS.open(f"s3://{BUCKET}/replaced.tar")
    assert source.read(0, 512) == data[:512]
    client.put_object(**target, Body=data[:-1] + b"\1")
    with pytest.raises(ShardChanged, match=r"^s3://shards/replaced\.tar: was .* when opened and is"):
        source.read(0, 512)


def test_an_object_that_is_gone_between_two_requests_is_named(client: Any, tmp_path: Path) -> None:
    target = {"Bucket": BUCKET, "Key": "gone.tar"}
    client.put_object(**target, Body=bytes(2048))
    source = ACCESS.open(f"s3://{BUCKET}/gone.tar")
    client.delete_object(**target)
    with pytest.raises(ShardUnreadable, match=r"^s3://shards/gone\.tar: bytes 0-511 cannot be read: FileNotFoundError"):
        source.read(0, 512)


def test_an_empty_object_is_told_as_cut_off(client: Any, tmp_path: Path) -> None:
    client.put_object(Bucket=BUCKET, Key="empty.tar", Body=b"")
    with pytest.raises(ShardDamaged, match=r"empty\.tar: cut off.*at byte 0"):
        ShardIndex.build(f"s3://{BUCKET}/empty.tar", tmp_path / "index", access=ACCESS)


def test_a_key_with_letters_that_urls_write_otherwise_is_read(client: Any, tmp_path: Path) -> None:
    key = "a b%2F#?~+é.tar"
    client.put_object(Bucket=BUCKET, Key=key, Body=Path(shards(tmp_path, [2], SIZE)[0]).read_bytes())
    index = ShardIndex.build([f"s3://{BUCKET}/{key}"], tmp_path / "index", access=ACCESS)
    assert read(index, range(2)) == [0, 1]


def test_credentials_and_endpoint_may_be_given_as_options(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = environment(client)
    for name in known:
        monkeypatch.delenv(name)
    names = {"access_key_id": "AWS_ACCESS_KEY_ID", "secret_access_key": "AWS_SECRET_ACCESS_KEY", "region": "AWS_REGION"}
    given = {name: known[variable] for name, variable in names.items()}
    access = Access(retry=Retry(1), options={**given, "endpoint": known["AWS_ENDPOINT_URL"]})
    assert len(ShardIndex.build(URLS, tmp_path / "index", access=access)) == 2 * COUNT


@pytest.mark.parametrize("etags", [True, False])
def test_an_index_keeps_the_etag_unless_it_is_told_not_to(client: Any, tmp_path: Path, etags: bool) -> None:
    index = ShardIndex.build(URLS, tmp_path / "index", access=Access(etags=etags))
    etag = client.head_object(Bucket=BUCKET, Key="train/shard-000.tar")["ETag"]
    assert (etag in index.stamps[0]) == etags


@pytest.mark.parametrize("url", [f"s3://{BUCKET}/train/none.tar", "s3://no-such-bucket/x.tar"])
def test_a_shard_that_is_not_there_is_named(client: Any, tmp_path: Path, url: str) -> None:
    with pytest.raises(ShardMissing, match=rf"^{url}: cannot be opened: "):
        ShardIndex.build(url, tmp_path / "index", access=ACCESS)


@pytest.mark.parametrize("url", [f"s3://{BUCKET}/train", f"s3://{BUCKET}/train/"])
def test_a_prefix_is_told(client: Any, tmp_path: Path, url: str) -> None:
    words = rf"^{url}: is a folder or prefix, not a shard\. Give the URLs of the shards themselves"
    with pytest.raises(ShardMissing, match=words):
        ShardIndex.build(url, tmp_path / "index", access=ACCESS)


def test_missing_credentials_are_told_with_where_they_are_looked_for(client: Any, tmp_path: Path) -> None:
    code = (
        "from adaptive_sampler.shards import ShardIndex, ShardMissing\n"
        f"try: ShardIndex.build('s3://{BUCKET}/train/shard-000.tar', {str(tmp_path / 'index')!r})\n"
        "except ShardMissing as error: print(error)\n"
    )
    known = {name: value for name, value in os.environ.items() if "KEY" not in name}
    nowhere = {"HOME": str(tmp_path), "AWS_CONFIG_FILE": "none", "AWS_SHARED_CREDENTIALS_FILE": "none"}
    run = subprocess.run([sys.executable, "-c", code], env=known | nowhere, capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"s3://{BUCKET}/train/shard-000.tar: cannot be opened: ")
    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in run.stdout


def test_credentials_that_expire_amid_an_epoch_are_told_and_the_state_resumes_with_new_ones(
    client: Any, tmp_path: Path
) -> None:
    index = ShardIndex.build(URLS, tmp_path / "index", access=ACCESS)
    with proxy_of(client.meta.endpoint_url) as proxy:
        access = Access(retry=Retry(1), io_threads=1, max_in_flight=1, options={"aws_endpoint": proxy.address})
        reader = ShardReader(index, plan_of(2 * COUNT, range(2 * COUNT)), window=0, merge_gap=0, access=access)
        samples = iter(reader)
        rows = [next(samples)["__index__"] for _ in range(2)]
        proxy.rule = lambda method, path: EXPIRED
        with pytest.raises(ShardUnreadable, match=r"shard-000\.tar: .*run out: give new ones and resume by state_dict"):
            rows.extend(sample["__index__"] for sample in samples)
        state, proxy.rule = reader.state_dict(), lambda method, path: None
    again = ShardReader(index, plan_of(2 * COUNT, range(2 * COUNT)), window=0, access=ACCESS)
    again.load_state_dict(state)
    assert rows + [sample["__index__"] for sample in again] == list(range(2 * COUNT))


def test_a_bucket_alone_is_no_shard(client: Any, tmp_path: Path) -> None:
    with pytest.raises(ShardMissing, match=rf"s3://{BUCKET}: is a folder or prefix, not a shard\."):
        ShardIndex.build(f"s3://{BUCKET}", tmp_path / "index", access=ACCESS)


def test_what_energon_wrote_is_read_from_a_bucket(client: Any, tmp_path: Path) -> None:
    folder = prepared(tmp_path / "data")
    for file in (path for path in folder.rglob("*") if path.is_file()):
        client.upload_file(str(file), BUCKET, f"energon/{file.relative_to(folder)}")
    index = ShardIndex.build(Energon(f"s3://{BUCKET}/energon/"), tmp_path / "index", access=ACCESS)
    assert index.digest == ShardIndex.build(Energon(folder), tmp_path / "local").digest
    assert index.urls[-1] == f"s3://{BUCKET}/energon/val/more of it.tar"
