"""A draw over a table is the draw in memory, with and without replacement, however the lines are partitioned."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import draw
from adaptive_sampler.selection import Draw, Prune, Upsample

pa = pytest.importorskip("pyarrow", reason="tables are read with PyArrow")

from adaptive_sampler.tables import plan_table  # noqa: E402
from adaptive_sampler.tables.planning import passes, search  # noqa: E402
from tests.tables.planning.oracle import WEIGHTS, HeldScores, TableCase, cases, check, cut, visits_of  # noqa: E402

GROUPED = [Draw("loss", share, replacement=False, floor=0.1, per_group="group") for share in (None, 0.3)]
GROUPED += [Draw("loss", share, unbiased=True, per_group="group") for share in (None, 0.5, 30.0)]
DRAWS = (
    st.sampled_from(GROUPED)
    | st.builds(
        Draw,
        st.just("loss"),
        st.none() | st.sampled_from([1, 3, 10, 40, 1500]),
        replacement=st.just(True),
        floor=st.sampled_from([0.0, 0.1, 1.0]),
        unbiased=st.booleans(),
    )
    | st.builds(
        Draw,
        st.just("loss"),
        st.none() | st.integers(1, 20),
        replacement=st.just(False),
        floor=st.sampled_from([0.0, 0.3]),
    )
)


@given(case=cases(WEIGHTS), policy=DRAWS, seed=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_a_draw(case, policy, seed):
    check(case, policy, seed=seed)


@given(case=cases(WEIGHTS), policy=DRAWS)
@settings(max_examples=20, deadline=None)
def test_a_draw_composed_with_others(case, policy):
    check(case, policy & Prune(0.8, "other") & Upsample(2, "loss"))


def lines(n, text=False, seed=0):
    """Lines with weights of all sizes, some of them 0, and some never observed."""
    random = np.random.default_rng(seed)
    scores = np.exp(3 * random.normal(size=n)).astype(np.float32)
    scores[random.random(n) < 0.1], scores[random.random(n) < 0.1] = 0, np.nan
    names = [f"k{i}" for i in range(n)] if text else [*range(n)]
    table = pa.table({"id": names, "loss": scores})
    return TableCase(cut(table, [n // 3, n // 2]), HeldScores({"loss": scores}, names if text else None, {}), names)


LARGE = [
    Draw("loss"),
    Draw("loss", 700),
    Draw("loss", 9000, floor=0.2, unbiased=True),
    Draw("loss", 900, replacement=False),
]
LARGE += [Draw("loss", 6000, replacement=False, floor=0.1), Draw("loss", 8000, replacement=False, floor=1.0)]


@pytest.mark.parametrize("policy", LARGE, ids=repr)
@pytest.mark.parametrize("listed", [1 << 20, 50])
@pytest.mark.parametrize("text", [False, True])
def test_a_draw_from_many_lines(monkeypatch, policy, listed, text):
    monkeypatch.setattr(search, "LISTED", listed)
    if listed == 50:
        monkeypatch.setattr(passes, "MOST", 6)
    check(lines(8000, text), policy, seed=1)


@pytest.mark.parametrize("policy", LARGE, ids=repr)
@pytest.mark.parametrize("wrong", [0.5, 2.0])
def test_a_guess_of_the_last_arrival_that_misses_changes_nothing(monkeypatch, policy, wrong):
    init = search.CutSearch.__init__

    def made(self, label, rank, low, high, *rest, **more):
        init(self, label, rank, low, high, *rest, **more)
        if self.near:
            near = wrong * np.array(self.near, np.uint64).view(np.float64)
            self.near = tuple(map(int, near.view(np.uint64)))

    monkeypatch.setattr(search.CutSearch, "__init__", made)
    check(lines(8000), policy)


def passes_of(policy, case):
    plan = plan_table(case.partitions, policy, key="id", check_keys=False)
    return [one.name for one in plan.passes]


def test_a_draw_takes_two_or_three_passes():
    assert passes_of(Draw("loss", 7000), lines(8000)) == ["survey", "sum weights", "arrive"]  # and 8000 of 8000
    assert passes_of(Draw("loss", 100), lines(8000)) == ["survey", "sum weights", "list near"]
    observed = TableCase([pa.table({"id": range(9), "loss": np.arange(9, dtype=np.float32)})], None, [])
    assert passes_of(Draw("loss", 5, replacement=False), observed) == ["survey", "list near"]
    assert passes_of(Draw("loss", 5, replacement=False, floor=0.1), observed) == ["survey", "sum weights", "list near"]


def test_arrivals_of_which_more_come_than_are_drawn_are_counted_anew(monkeypatch):
    poisson, starts = draw.poisson, []

    def too_many(start, *rest):
        found = poisson(start, *rest)
        starts.append(start)
        if start != starts[0]:
            return found
        rest[-1][:] *= np.uint32(3)
        return 3 * found

    monkeypatch.setattr(draw, "poisson", too_many)
    case = lines(8000)
    check(case, Draw("loss", 8000))
    assert len({*starts}) == 2
    assert passes_of(Draw("loss", 8000), case) == ["survey", "sum weights", "arrive", "arrive"]


def test_scores_that_cannot_be_drawn_by_are_told_with_their_places():
    table = pa.table({"id": [0, 1, 2], "loss": [1.0, -2.0, 3.0]})
    with pytest.raises(
        InvalidValue, match=r"partition 1.*, line 0 .*: 'loss' is -2.0: a score to draw by must be finite"
    ):
        plan_table(cut(table, [1]), Draw("loss"), key="id")
    with pytest.raises(InvalidValue, match="'loss' is inf"):
        plan_table(pa.table({"id": [0], "loss": [np.inf]}), Draw("loss"), key="id")


def test_more_lines_than_have_a_weight_are_refused():
    table = pa.table({"id": [0, 1, 2], "loss": [1.0, 0.0, 3.0]})
    with pytest.raises(InvalidValue, match="only 2 rows have a positive 'loss'"):
        plan_table(table, Draw("loss", replacement=False), key="id")
    assert plan_table(table, Draw("loss", replacement=False, floor=0.1), key="id").num_rows == 3
    with pytest.raises(InvalidValue, match="Set floor above 0"):
        plan_table(pa.table({"id": [0], "loss": [0.0]}), Draw("loss"), key="id")


def test_a_draw_nobody_observed_a_score_for_visits_every_line_once():
    table = pa.table({"id": [0, 1], "loss": pa.array([None, None], pa.float32())})
    assert visits_of(plan_table(table, Draw("loss", 5), key="id")) == {0: (1, 1.0), 1: (1, 1.0)}


@pytest.mark.parametrize("labels", [["", "a", "b"], [0, -1, 2], [False, True, True]])
def test_a_draw_within_groups_has_an_id_whatever_the_labels_are(labels: list) -> None:
    table = pa.table({"row": range(3), "loss": [1.0, 2.0, 3.0], "group": labels})
    plan, other = (
        plan_table([table.slice(0, at), table.slice(at)], Draw("loss", per_group="group"), key="row") for at in (1, 2)
    )
    assert plan.id == other.id
