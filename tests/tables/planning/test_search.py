"""Cuts are found exactly when few lines may be listed, when few bins may be counted, and when a guess is wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pa = pytest.importorskip("pyarrow", reason="tables are read with PyArrow")

from adaptive_sampler.selection import Prune, RandomPrune, Window  # noqa: E402
from adaptive_sampler.tables.planning import passes, search  # noqa: E402
from tests.tables.planning.oracle import HeldScores, TableCase, cases, check, cut  # noqa: E402

POLICIES = [
    Prune(0.5, "loss"),
    Prune(0.5, "loss", per_group="group"),
    Prune(0.3, "loss", order="lowest"),
    Window(0.4, 0.3, "loss"),
    RandomPrune(0.4),
]


@pytest.mark.parametrize(("cells", "listed"), [(16, 1 << 20), (1 << 22, 3), (16, 3)])
@given(case=cases(), policy=st.sampled_from(POLICIES))
@settings(max_examples=25, deadline=None)
def test_small_limits_change_no_row(cells, listed, case, policy):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "CELLS", cells)
        patch.setattr(passes, "FEWEST", 1)
        patch.setattr(search, "LISTED", listed)
        check(case, policy)


def many(n, values, seed=0):
    """Lines of which many have the same score, in partitions of their own."""
    chosen = np.random.default_rng(seed).choice(np.float32(values), n)
    groups = np.arange(n) % 3
    table = pa.table({"id": np.arange(n), "loss": chosen, "group": groups})
    return TableCase(cut(table, [n // 7, n // 2]), HeldScores({"loss": chosen}, None, {"group": groups}), [*range(n)])


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("listed", [1 << 20, 1200, 100])
def test_a_cut_through_thousands_of_ties(monkeypatch, policy, listed):
    monkeypatch.setattr(search, "LISTED", listed)
    check(many(20_000, [1.0, 1.0, 1.0, 2.0]), policy)


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("listed", [1 << 20, 100])
def test_a_guess_that_misses_is_widened(monkeypatch, policy, listed):
    monkeypatch.setattr(search, "LISTED", listed)
    monkeypatch.setattr(search, "WIDTH", 1e-3)
    monkeypatch.setattr(search, "ROOM", 1e-3)
    check(many(5000, [1.0]), policy)


def passes_of(monkeypatch, policy, case):
    """How many passes over the table a plan takes."""
    from adaptive_sampler.tables import plan_table
    from adaptive_sampler.tables.planning.partitions import Partitions

    run, calls = Partitions.run, []
    monkeypatch.setattr(
        Partitions, "run", lambda self, task, *rest: calls.append(task.__name__) or run(self, task, *rest)
    )
    plan_table(case.partitions, policy, key="id", check_keys=False)
    return calls


def test_a_plan_takes_two_passes(monkeypatch):
    assert passes_of(monkeypatch, Prune(0.5, "loss"), many(20_000, np.linspace(0, 1, 5000))) == [
        "count_groups",
        "list_near",
    ]


def test_a_plan_that_cuts_through_ties_takes_three_passes_at_most(monkeypatch):
    monkeypatch.setattr(search, "LISTED", 2000)
    calls = passes_of(monkeypatch, Prune(0.5, "loss"), many(20_000, [1.0, 1.001]))
    assert calls == ["count_groups", "count_near", "list_near"]
