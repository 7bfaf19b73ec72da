"""What is spread stands for all: one row of each crowd before a second one of any."""

import sys

import numpy as np
import pytest

from adaptive_sampler import testing
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.selection import Linear, Spread
from tests import references
from tests.stores import scored

CROWDS = np.repeat(np.eye(4), [20, 10, 5, 1], axis=0)  # four places, with many rows or few


def kept(policy, store, *, seed=0):
    return set(policy.plan(store, epoch=0, seed=seed).rows.tolist())


@pytest.fixture(autouse=True)
def _faiss():
    pytest.importorskip("faiss")


def places(rows):
    return sorted(int(np.argmax(CROWDS[row])) for row in rows)


def test_one_row_of_each_crowd_is_kept_before_a_second_one():
    assert places(kept(Spread(4, None, embeddings=CROWDS, neighbours=35), scored(np.ones(36)))) == [0, 1, 2, 3]
    assert places(kept(Spread(3, None, embeddings=CROWDS, neighbours=35), scored(np.ones(36)))) == [0, 1, 2]


def test_high_scores_are_stood_for_first():
    scores = np.where(np.arange(36) == 35, 100.0, 1.0)
    assert kept(Spread(2, "loss", embeddings=CROWDS, neighbours=35), scored(scores)) >= {35}


def test_it_is_greedy_facility_location_on_all_cosines():
    vectors = np.random.default_rng(3).normal(size=(40, 5)).astype(np.float32)
    scores = np.random.default_rng(4).gamma(2, size=40).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness = np.maximum(unit @ unit.T, 0)
    np.fill_diagonal(likeness, 1)
    expected = references.facility_location(likeness, scores.astype(float), 10, range(40))
    assert kept(Spread(0.25, "loss", embeddings=vectors, neighbours=39), scored(scores)) == expected


def test_rows_that_add_nothing_are_taken_at_random():
    policy, store = Spread(2, None, embeddings=np.ones((60, 3))), scored(np.ones(60))
    assert kept(policy, store) == kept(policy, store) != kept(policy, store, seed=1)


def test_rows_never_observed_come_first_and_cover_their_neighbours():
    scores = np.ones(36)
    scores[0] = np.nan
    found = kept(Spread(2, "loss", embeddings=CROWDS, neighbours=35), scored(scores))
    assert 0 in found
    assert places(found) == [0, 1]


def test_a_score_that_nobody_observed_keeps_everything():
    assert len(kept(Spread(2, "loss", embeddings=CROWDS), scored([np.nan] * 36))) == 36


def test_a_plan_of_spread_rows_is_pure_and_names_the_embeddings_by_their_checksum():
    policy = Spread(Linear(0.1, 0.5, epochs=4), "loss", embeddings=CROWDS)
    testing.check_policy(policy, scored(np.arange(36.0)))
    told = policy.plan(scored(np.arange(36.0)), epoch=2, seed=0).policy
    assert told["keep"] == 0.3
    assert told["embeddings"]["length"] == 36


@pytest.mark.parametrize(("scale", "told"), [(1e200, "inf as float32"), (1e-200, "0 as float32")])
def test_an_embedding_that_float32_does_not_hold_is_refused_by_row(scale, told):
    vectors = np.ones((36, 2))
    vectors[7] *= scale
    with pytest.raises(InvalidValue, match=f"the embedding of row 7 is {told}"):
        Spread(2, "loss", embeddings=vectors)


def test_neighbours_are_found_once_for_all_epochs():
    policy, store = Spread(Linear(0.1, 0.5, epochs=4), "loss", embeddings=CROWDS), scored(np.arange(36.0))
    policy.plan(store, epoch=0, seed=0)
    (graph,) = policy._graph.values()
    policy.plan(store, epoch=1, seed=0)
    assert [*policy._graph.values()] == [graph]


def test_one_row_is_its_own_neighbour():
    assert kept(Spread(1.0, None, embeddings=[[0.0, 0.0]]), scored([1.0])) == {0}


def test_without_faiss_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match="Spread finds neighbours with faiss: pip install faiss-cpu"):
        kept(Spread(2, None, embeddings=CROWDS), scored(np.ones(36)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"keep": 1.5}, "keep=1.5: must be a fraction"),
        ({"by": 3}, "by=3: the name of a score"),
        ({"neighbours": 0}, "neighbours=0: how many neighbours of each row"),
        ({"embeddings": [1.0, 2.0]}, r"embeddings have shape \(2,\) and dtype float64: a vector"),
        ({"embeddings": [["a"]]}, "embeddings have shape .* and dtype <U1: a vector"),
        ({"embeddings": [[1.0], [np.nan]]}, "the embedding of row 1 is nan as float32"),
    ],
)
def test_an_argument_that_is_none_is_refused_with_the_rule(arguments, words):
    with pytest.raises(InvalidValue, match=words):
        Spread(**{"keep": 0.5, "by": "loss", "embeddings": CROWDS} | arguments)


def test_embeddings_of_another_length_and_negative_scores_are_refused_by_name():
    with pytest.raises(InvalidValue, match="embeddings have 36 rows, and the store 5: one for each row is needed"):
        kept(Spread(2, "loss", embeddings=CROWDS), scored(np.ones(5)))
    with pytest.raises(
        InvalidValue, match=r"'loss' of row 2 is -1.0: what a row counts must be finite and not negative"
    ):
        kept(Spread(2, "loss", embeddings=CROWDS[:3]), scored([1.0, 1.0, -1.0]))


def test_per_group_the_rows_of_each_stand_for_that_group_alone():
    vectors = np.random.default_rng(3).normal(size=(40, 5)).astype(np.float32)
    scores = np.random.default_rng(4).gamma(2, size=40).astype(np.float32)
    groups = np.random.default_rng(5).permutation([0] * 22 + [1] * 17 + [2])

    def alone(rows):
        if len(rows) == 1:
            return {0}  # at least one row stays
        return kept(Spread(0.25, "loss", embeddings=vectors[rows], neighbours=39), scored(scores[rows]))

    expected = references.per_class(groups, alone)
    assert kept(Spread(0.25, "loss", embeddings=vectors, neighbours=39, per_group=groups), scored(scores)) == expected


def test_neighbours_are_found_anew_for_a_column_that_was_set_anew():
    store = scored(np.ones(36))
    policy = Spread(2, None, embeddings=CROWDS, neighbours=35, per_group="source")
    for groups in ([0] * 18 + [1] * 18, [0, 1] * 18):
        store.columns["source"] = np.array(groups)
        assert kept(policy, store) == kept(Spread(2, None, embeddings=CROWDS, neighbours=35, per_class=groups), store)


def test_groups_of_another_length_are_refused_before_anything_was_observed_too():
    with pytest.raises(InvalidValue, match="per_group has shape"):
        kept(Spread(2, "loss", embeddings=CROWDS, per_group=[0, 1]), scored([np.nan] * 36))
