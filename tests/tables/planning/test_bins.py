"""Which scores a pass counts together: bins ascend with the scores, are narrow where a sample has many, and change no cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pa = pytest.importorskip("pyarrow", reason="tables are read with PyArrow")

from adaptive_sampler.kernels import tally  # noqa: E402
from adaptive_sampler.selection import Draw, Prune, Window  # noqa: E402
from adaptive_sampler.tables import plan_table  # noqa: E402
from adaptive_sampler.tables.planning import bins, partitions, passes  # noqa: E402
from adaptive_sampler.tables.planning.bins import ScoreBins  # noqa: E402
from tests.tables.planning.oracle import HeldScores, TableCase, check, cut  # noqa: E402

FLOATS = arrays(np.float32, st.integers(0, 40), elements=st.floats(width=32) | st.sampled_from([0.5, -0.0, np.inf]))
SAMPLES = st.dictionaries(st.integers(0, (1 << 16) - 1), st.integers(1, 1000), max_size=5)


def sampled(counts: dict[int, int]) -> ScoreBins:
    found = np.zeros(1 << 16, np.int64)
    found[[*counts]] = [*counts.values()]
    return ScoreBins.of(found)


def counted(scores: np.ndarray, of: ScoreBins, bits: int) -> np.ndarray:
    lines, counts = np.zeros(1, np.int64), np.zeros(1 << bits, np.uint32)
    tally.count_all(scores.view(np.uint32), passes.NO_GROUPS, passes.ONE_GROUP, *of.told_by(bits), lines, counts)
    assert lines[0] == len(scores)
    return counts


@given(FLOATS, SAMPLES, st.sampled_from([4, 8, 16]))
def test_a_score_is_counted_in_the_bin_between_whose_borders_it_lies(
    scores: np.ndarray, sample: dict[int, int], bits: int
) -> None:
    of = sampled(sample)
    borders = of.borders(bits)
    uppers = [int(key) >> 32 for key in tally.score_keys(scores[~np.isnan(scores)].view(np.uint32))]
    wanted = np.zeros(1 << bits, np.int64)
    for upper in uppers:
        wanted[next(number for number in range(1 << bits) if upper < borders[number + 1])] += 1
    assert counted(scores, of, bits).tolist() == wanted.tolist()
    assert borders[0] == 0
    assert borders[-1] == 1 << 32
    assert (np.diff(borders) >= 0).all()


def test_where_a_sample_has_its_scores_bins_are_narrow() -> None:
    scores = np.random.default_rng(0).random(1 << 14, np.float32) / 8 + np.float32(0.5)
    uppers = tally.score_keys(scores.view(np.uint32)) >> np.uint64(48)
    of = ScoreBins.of(np.bincount(uppers.astype(np.int64), minlength=1 << 16))
    assert counted(scores, ScoreBins.even(), 8).max() > len(scores) // 2
    assert counted(scores, of, 8).max() < len(scores) // 64


def test_counts_beyond_32_bits_are_held_in_64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "_MOST_COUNTED", 30)
    check(lines_of_groups(90), Prune(0.5, "loss", per_group="group"))
    found = passes.GroupCounts()
    found.places([None])
    assert found.counts.dtype == np.uint32
    found.lines += 20
    found.make_room(11)
    assert found.counts.dtype == np.int64


def lines_of_groups(n: int) -> TableCase:
    scores = np.random.default_rng(1).random(n, np.float32).round(2)
    groups = np.arange(n) % 3
    table = pa.table({"id": np.arange(n), "loss": scores, "group": groups})
    return TableCase(cut(table, [n // 3, n // 2]), HeldScores({"loss": scores}, None, {"group": groups}), [*range(n)])


POLICIES = [Prune(0.5, "loss", per_group="group"), Window(0.3, 0.2, "loss"), Draw("loss", 200, replacement=False)]


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("seen", [[], [0], [0xBF00] * 3 + [0x4000], [*range(0, 1 << 16, 7)]])
def test_a_sample_that_misleads_changes_no_row(
    monkeypatch: pytest.MonkeyPatch, policy: Prune | Window | Draw, seen: list[int]
) -> None:
    monkeypatch.setattr(bins, "bins_for", None)
    of = ScoreBins.of(np.bincount(np.array(seen, np.int64), minlength=1 << 16))
    for module in ("policies", "draws"):
        monkeypatch.setattr(f"adaptive_sampler.tables.planning.{module}.bins_for", lambda *_: of)
    check(lines_of_groups(600), policy)


def test_within_many_groups_two_passes_and_a_look_at_some_lines_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "LEAST", 1 << 10)
    monkeypatch.setattr("adaptive_sampler.tables.planning.search.LISTED", 1 << 13)
    n = 1 << 16
    scores, groups = np.random.default_rng(0).random(n, np.float32), np.arange(n) % 1000
    table = pa.table({"id": np.arange(n), "loss": scores, "group": groups})
    parts = cut(table, [*range(1 << 12, n, 1 << 12)])
    plan = plan_table(parts, Prune(0.5, "loss", per_group="group"), key="id", check_keys=False)
    assert [one.name for one in plan.passes] == ["count upper", "count groups", "list near"]
