"""What the process that makes a plan holds stays below 64 MiB, however many groups there are: counted in bytes."""

import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="tables are read with PyArrow")

from adaptive_sampler.selection import Prune, Window  # noqa: E402
from adaptive_sampler.tables import plan_table  # noqa: E402
from adaptive_sampler.tables.planning import passes, search  # noqa: E402
from adaptive_sampler.tables.planning.partitions import Partitions  # noqa: E402
from tests.tables.planning.oracle import cut  # noqa: E402

MIB = 1 << 20
N = 1 << 18


@pytest.mark.parametrize("groups", [1, 999, 1000, 5000, 16_000])
def test_the_counts_of_all_groups_take_a_mebibyte(groups: int) -> None:
    found = passes.GroupCounts()
    found.places([*range(groups)])
    assert found.counts.nbytes <= MIB
    assert passes.CELLS * found.counts.itemsize == MIB


def test_labels_that_come_one_by_one_take_no_more_than_twice_as_much_and_few_copies() -> None:
    found, arrays = passes.GroupCounts(), set()
    for label in range(2000):
        found.places([label])
        arrays.add(len(found.lines))
        assert found.counts.nbytes <= 2 * MIB
    assert len(arrays) <= 12


def parts_of(levels: int) -> list[Any]:
    random = np.random.default_rng(0)
    scores = random.integers(0, levels, N).astype(np.float32)
    table = pa.table({"row": np.arange(N), "loss": scores, "group": random.integers(0, 1000, N)})
    return cut(table, [*range(1 << 14, N, 1 << 14)])


POLICIES = [Prune(0.5, "loss", per_group="group"), Window(0.4, 0.3, "loss", per_group="group")]


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_a_thousand_groups_take_less_than_64_mebibytes_and_each_merged_result_less_than_12(
    monkeypatch: pytest.MonkeyPatch, policy: Any
) -> None:
    run, sizes = Partitions.run, []

    def weighed(self: Any, *arguments: Any) -> Any:
        found = run(self, *arguments)
        sizes.append(len(pickle.dumps(found)))
        return found

    parts = parts_of(2)  # half of all lines tie at each cut, and are listed
    tracemalloc.start()
    try:
        monkeypatch.setattr(Partitions, "run", weighed)
        plan_table(parts, policy, key="row", check_keys=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * MIB
    assert max(sizes) < 12 * MIB


def test_lines_that_are_listed_take_20_bytes_each() -> None:
    assert search.LISTED * (4 + 8 + 8) <= 10 * MIB
