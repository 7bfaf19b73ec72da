"""What the tests of places share: a disk that is small, so that it is soon full, and an S3 server."""

import logging
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shards.servers.s3 import BUCKET, environment, s3
from tests.storage.proxy import Proxy, proxy_of


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.fixture(scope="session")
def server() -> Iterator[dict[str, str]]:
    """The environment of an S3 server that has a bucket."""
    pytest.importorskip("obstore", reason="obstore is not installed (the extra cloud brings it)")
    pytest.importorskip("moto", reason="moto is not installed (the extra dev brings it)")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with s3() as client:
        yield environment(client)


@pytest.fixture
def place(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a place of a test's own in that server, which the environment says how to reach."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}/scores.zarr"


@pytest.fixture
def proxy(server: dict[str, str], place: str) -> Iterator[Proxy]:
    """A proxy of the server; a store whose `options` are the proxy's asks it, and tries nothing twice."""
    with proxy_of(server["AWS_ENDPOINT_URL"]) as proxy:
        yield proxy
