"""How stores, plans and samplers show themselves in a notebook: cheaply, whatever their state, and every text as text."""

import html
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.markup import card
from adaptive_sampler.scoring import EL2N, Forgetting, Loss, Score
from adaptive_sampler.selection import Draw, Prune
from tests.stores import scored


def cells(shown: str) -> list[str]:
    """The texts of all cells, as a reader sees them."""
    return [html.unescape(text) for text in re.findall(r"<t[dh][^>]*>([^<]*)</t[dh]>", shown)]


def fact(thing: Any, name: str) -> str:
    """What stands beside `name`."""
    texts = cells(thing._repr_html_())
    return texts[texts.index(name) + 1]


def test_a_store_shows_its_rows_version_and_how_many_rows_each_score_has_observed() -> None:
    store = ScoreStore.create(None, 1000, [EL2N(), Forgetting()])
    store.commit()
    store.fold("el2n", [1, 2, 2], [0.5, 0.5, 0.5])
    assert fact(store, "rows") == "1,000, without keys"
    assert fact(store, "version") == "1, and 1 updates since"
    assert fact(store, "path") == str(store.path)
    assert cells(store._repr_html_())[-8:] == [
        *("el2n", "2 of 1,000 (0.2 %)", "3", "Mean()"),
        *("forgetting", "0 of 1,000 (0.0 %)", "0", "Transitions(never_learned='inf', runs='sum')"),
    ]


def test_a_store_without_scores_shows_no_table_of_scores() -> None:
    assert ScoreStore.create(None, 3, [])._repr_html_().count("<table>") == 1


def test_a_closed_store_says_so_and_nothing_raises() -> None:
    store = ScoreStore.create(None, 3, [Loss()])
    assert fact(store, "open") == "to read and write"
    store.close()
    assert fact(store, "open") == "closed"


def test_a_store_that_is_open_to_read_and_pinned_says_so(tmp_path: Path) -> None:
    with ScoreStore.create(tmp_path / "s", 3, [Loss()]) as store:
        store.commit(pin=True)
        with ScoreStore.open(tmp_path / "s", version=1, mode="r") as reader:
            assert fact(reader, "open") == "to read"
            assert fact(reader, "version") == "1"


def test_a_store_in_an_object_store_shows_its_name() -> None:
    pytest.importorskip("obstore", reason="memory:// is one of obstore's")
    with ScoreStore.create("memory://notebook", 3, [Loss()]) as store:
        assert "notebook" in fact(store, "path")


def test_html_in_keys_paths_columns_and_names_of_policies_is_text(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>"
    store = ScoreStore.create(tmp_path / "<b>&", 2, [Loss()], keys=[bad, "b"], columns={"source": [bad, "y"]})
    policy = Prune(0.5, "loss")
    object.__setattr__(policy, "order", bad)
    for thing in (store, AdaptiveSampler(store, policy)):
        assert not re.search(r"<(?!/?(div|p|b|table|thead|tbody|tr|th|td)\b)", thing._repr_html_())
        assert "<b>&" not in thing._repr_html_()


def test_a_long_text_is_cut_and_a_long_table_counted() -> None:
    shown = card("<t>", {"long": "x" * 5000}, ("a",), [(i,) for i in range(60)])
    assert max(map(len, cells(shown))) < 300
    assert "and 10 more" in shown
    assert "<b>&lt;t&gt;</b>" in shown


def test_a_plan_shows_what_it_keeps_and_of_what_it_was_made() -> None:
    store = scored(np.arange(10))
    plan = Prune(4, "loss").plan(store, epoch=3, seed=7)
    assert fact(plan, "rows") == "4 of 10 (40.0 %)"
    assert fact(plan, "samples") == "4"
    assert fact(plan, "loss weights") == "all 1"
    assert (fact(plan, "epoch"), fact(plan, "seed"), fact(plan, "id")) == ("3", "7", plan.id)


def test_a_plan_of_repeats_and_weights_shows_both() -> None:
    plan = Draw("loss", 50, unbiased=True).plan(scored(np.arange(1, 11)), epoch=0, seed=0)
    assert fact(plan, "samples") == "50"
    low, high = map(float, fact(plan, "loss weights").split(" to "))
    assert (low, high) == pytest.approx((plan.weights.min(), plan.weights.max()), rel=1e-3)  # type: ignore[union-attr]


def test_a_sampler_shows_its_policy_and_makes_no_plan() -> None:
    store = scored(np.arange(10))
    sampler = AdaptiveSampler(store, Prune(4, "loss"), warmup_epochs=2, num_samples=7)
    assert fact(sampler, "plan") == "made when the epoch's first row is drawn"
    assert sampler.fixed_plan is None
    assert fact(sampler, "policy") == repr(sampler.policy)
    assert fact(sampler, "length") == "7 samples"


def test_a_sampler_in_its_epoch_shows_the_plan_and_how_far_it_is() -> None:
    sampler = AdaptiveSampler(scored(np.arange(10)), Prune(4, "loss"))
    drawn = iter(sampler)
    next(drawn)
    assert fact(sampler, "plan") == f"{sampler.plan.id}: 4 of 10 (40.0 %) rows"
    assert fact(sampler, "epoch") == "0, of which 1 samples are drawn"


def test_showing_a_store_reads_no_column_and_loads_no_numba(tmp_path: Path) -> None:
    with ScoreStore.create(tmp_path / "s", 100, [Loss()], keys=[str(i) for i in range(100)]) as store:
        store.fold("loss", np.arange(60), np.arange(60))
        Prune(0.5, "loss").plan(store, epoch=0, seed=0)
        store.commit()
    code = f"""
import sys
from adaptive_sampler import AdaptiveSampler, Plan, ScoreStore
from adaptive_sampler.selection import Prune
import numpy as np
store = ScoreStore.open({str(tmp_path / "s")!r}, mode="r")
sampler = AdaptiveSampler(store, Prune(0.5, "loss"))
plan = Plan(9, {{"kind": "x"}}, 0, 0, store.made_from, np.packbits([1, 0] * 4 + [1], bitorder="little"))
for thing in (store, sampler, plan):
    thing._repr_html_()
assert "60 of 100" in store._repr_html_() and "5 of 9" in plan._repr_html_()
assert "numba" not in sys.modules
assert all(book.on_disk for book in store.session.table.books)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_showing_a_store_does_not_wait_for_what_a_hook_holds() -> None:
    class Hook:
        def flush(self) -> None:
            raise AssertionError("flushed")

    store, hook = ScoreStore.create(None, 3, [Loss()]), Hook()
    store.session.register(hook)
    store._repr_html_(), repr(store)
    assert store.session.hooks == [hook]


def test_a_score_of_ones_own_is_shown_by_its_fold() -> None:
    store = ScoreStore.create(None, 3, [Score("mine", lambda loss: loss, Loss().fold)])
    assert "mine" in cells(store._repr_html_())
