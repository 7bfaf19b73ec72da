"""A plan over a table has the rows of the plan in memory, however the lines are partitioned and whatever the columns' types."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pa = pytest.importorskip("pyarrow", reason="tables are read with PyArrow")

from adaptive_sampler import ScoreStore  # noqa: E402
from adaptive_sampler.errors import InvalidValue  # noqa: E402
from adaptive_sampler.scoring import Loss  # noqa: E402
from adaptive_sampler.selection import Exclude, KeepAll, Prune, RandomPrune, Threshold, Upsample, Window  # noqa: E402
from adaptive_sampler.tables import plan_table  # noqa: E402
from tests.tables.planning.oracle import cases, check  # noqa: E402

SHARE = st.sampled_from([0.1, 0.25, 0.5, 0.75, 1.0, 2, 5])
AT = {"epoch": st.integers(0, 2), "seed": st.integers(0, 2)}


@given(case=cases(), keep=SHARE, order=st.sampled_from(["highest", "lowest"]), at=st.fixed_dictionaries(AT))
@settings(max_examples=20, deadline=None)
def test_prune(case, keep, order, at):
    check(case, Prune(keep, "loss", order=order), **at)


@given(
    case=cases(),
    offset=st.sampled_from([0.0, 0.1, 0.25, 3]),
    keep=SHARE.filter(lambda keep: keep != 1.0),
    at=st.fixed_dictionaries(AT),
)
@settings(max_examples=20, deadline=None)
def test_window(case, offset, keep, at):
    check(case, Window(keep, offset, "loss"), **at)


@given(case=cases(), lowest=st.sampled_from([None, 0.1, 0.3, 2]), highest=st.sampled_from([0.0, 0.1, 0.3, 2]))
@settings(max_examples=20, deadline=None)
def test_exclude(case, lowest, highest):
    check(case, Exclude("loss", lowest=lowest, highest=highest))


@given(case=cases(), keep=SHARE, at=st.fixed_dictionaries(AT))
@settings(max_examples=20, deadline=None)
def test_random_prune(case, keep, at):
    check(case, RandomPrune(keep), **at)


@given(case=cases(), value=st.sampled_from([0.0, 1.5, 0.1, float("inf")]), order=st.sampled_from(["highest", "lowest"]))
@settings(max_examples=20, deadline=None)
def test_threshold(case, value, order):
    check(case, Threshold(value, "loss", order=order))


@given(case=cases(), factor=st.sampled_from([1, 2, 300]), convention=st.sampled_from(["total", "extra"]))
@settings(max_examples=20, deadline=None)
def test_upsample(case, factor, convention):
    check(case, Upsample(factor, "loss", convention=convention))


@given(case=cases())
@settings(max_examples=10, deadline=None)
def test_keep_all(case):
    check(case, KeepAll())


PARTS = [
    Prune(0.5, "loss"),
    RandomPrune(0.7),
    Exclude("other", highest=0.2),
    Upsample(3, "other"),
    Threshold(1.0, "loss"),
]


@given(
    case=cases(),
    first=st.sampled_from(PARTS),
    second=st.sampled_from(PARTS),
    third=st.sampled_from([*PARTS, KeepAll()]),
)
@settings(max_examples=20, deadline=None)
def test_composed(case, first, second, third):
    check(case, first & second & third)


GROUPED = [
    Prune(0.5, "loss", per_group="group"),
    Prune(0.1, "loss", order="lowest", per_group="group"),
    Window(0.4, 0.3, "loss", per_group="group"),
    Exclude("loss", lowest=0.2, highest=0.3, per_group="group"),
    RandomPrune(0.4, per_group="group"),
]


@given(case=cases(), policy=st.sampled_from(GROUPED), at=st.fixed_dictionaries(AT))
@settings(max_examples=50, deadline=None)
def test_within_groups(case, policy, at):
    check(case, policy, **at)


@pytest.mark.parametrize("name", ["row", "key"])
def test_a_column_of_ones_own_that_is_called_as_one_of_the_tables_is_named_as_it_is_in_a_store(tmp_path, name):
    store = ScoreStore.create(None, 60, [Loss()], keys=[f"k{i}" for i in range(60)])
    store.fold("loss", range(60), np.arange(60) % 7)
    store.columns[name] = np.arange(60) % 3
    store.export(tmp_path / "x.parquet")
    policy = Prune(0.5, "loss", per_group=name)
    rows = plan_table(tmp_path / "x.parquet", policy, key="key", seed=3).rows(0)
    assert sorted(store.rows(rows["key"].to_pylist())) == policy.plan(store, epoch=0, seed=3).rows.tolist()
    with pytest.raises(InvalidValue, match=f"no column 'column:{name}': it has"):
        plan_table(pa.table({"id": [0], "loss": [1.0], name: [1]}), policy, key="id")
