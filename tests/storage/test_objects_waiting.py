"""A commit to a slow object store holds no more than is allowed, however many objects it has."""

import time

import pytest

from adaptive_sampler.disk import nbytes
from adaptive_sampler.remote.objects import Objects
from adaptive_sampler.storage import objects
from adaptive_sampler.storage.objects import ObjectStorage


@pytest.mark.parametrize("size", [10, 99, 250])
def test_no_more_waits_for_a_slow_server_than_is_allowed_or_one_larger_object(
    place: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def slowly(self: Objects, name: str, parts: list[bytes]) -> None:
        time.sleep(0.01)
        written.append(nbytes(parts))

    monkeypatch.setattr(Objects, "put", slowly)
    monkeypatch.setattr(objects, "AHEAD", 100)
    storage, waiting = ObjectStorage(place), []
    for number in range(1, 41):
        storage.put(f"v1/{number}", [bytes(size)])
        waiting.append(number * size - sum(written))
    storage.flush()
    assert written == [size] * 40
    assert max(waiting) <= max(100, size)
