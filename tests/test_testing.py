"""The shipped contract: what we ship keeps it, and what breaks a rule is told which."""

import time
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from adaptive_sampler import scoring, testing
from adaptive_sampler.errors import PointerMoved
from adaptive_sampler.scoring import (
    EL2N,
    EMA,
    L2RW,
    Column,
    Deviation,
    Forgetting,
    GraNd,
    Influence,
    Last,
    Loss,
    Max,
    Mean,
    Score,
    Tokens,
)
from adaptive_sampler.selection import Prune, make
from adaptive_sampler.storage.base import POINTER
from adaptive_sampler.storage.in_memory import MemoryStorage
from adaptive_sampler.storage.local import LocalStorage
from tests.stores import scored

RNG = np.random.default_rng(0)
BATCHES = [
    (rows, {"logits": RNG.normal(size=(len(rows), 3)).astype(np.float32), "labels": RNG.integers(3, size=len(rows))})
    for rows in ([0, 4, 4, 2], [1], [], [2, 0, 4, 2], [4, 3])
]
FROM_LOGITS = [
    scoring.EL2N(),
    scoring.EL2N(squared=True, fold=Last(), name="late"),
    scoring.Forgetting(),
    scoring.Forgetting(never_learned="presentations", runs="mean"),
    scoring.Forgetting(never_learned="zero"),
    scoring.Loss(),
    scoring.Loss(fold=Mean()),
    scoring.Loss(fold=EMA(0.5)),
    scoring.Loss(fold=Max()),
    scoring.Loss(fold=Deviation()),
    scoring.Margin(),
    scoring.Confidence(),
    scoring.Variability(),
    scoring.Entropy(),
    scoring.Error(),
    Score("mine", lambda logits, labels: logits[:, 0], Mean()),
]


@pytest.mark.parametrize("score", FROM_LOGITS, ids=lambda score: f"{score.name} {type(score.fold).__name__}")
def test_every_score_from_logits_keeps_the_contract(score):
    testing.check_score(score, *BATCHES)


@pytest.mark.parametrize("score", [GraNd(), Influence(), L2RW()], ids=lambda score: score.name)
def test_every_score_of_a_measured_value_keeps_the_contract(score):
    (name,) = score.inputs[0]
    testing.check_score(score, *[(rows, {name: RNG.random(len(rows))}) for rows, _ in BATCHES])


def test_the_score_that_counts_tokens_keeps_the_contract():
    testing.check_score(Tokens(), *[(rows, {"tokens": RNG.integers(9000, size=len(rows))}) for rows, _ in BATCHES])


@pytest.mark.parametrize("lasting", [True, False])
def test_the_local_storage_keeps_the_contract(tmp_path, lasting):
    folders = iter(range(100))
    testing.check_storage(
        lambda: LocalStorage(tmp_path / str(next(folders)), lasting=lasting),
        lambda storage: LocalStorage(storage.where),
    )


@dataclass(frozen=True)
class Broken:
    """A mean that breaks one rule."""

    rule: str = ""
    columns: ClassVar = {"total": Column("float32", 0)}

    def fold(self, state, rows, values, before):
        if self.rule == "duplicates":  # the last of two wins, as NumPy's indexing has it
            state["total"][rows] += values
        else:
            np.add.at(state["total"], rows, values)
        if self.rule == "others" and len(rows):
            state["total"][1] += 1

    def read(self, state):
        with np.errstate(invalid="ignore", divide="ignore"):
            value = state["total"] / state["count"]
        if self.rule == "unseen":
            value = np.nan_to_num(value)
        return value.astype(np.float64 if self.rule == "dtype" else np.float32)

    def begin_run(self, state):
        if self.rule == "run":
            state["total"][:] = 0


def test_a_fold_that_breaks_no_rule_passes():
    testing.check_score(Score("mine", lambda labels: labels * 1.0, Broken()), *BATCHES)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("duplicates", "duplicates in order"),
        ("others", "changed rows that it was not given"),
        ("unseen", "a row never observed must read as NaN"),
        ("dtype", "read gives float64, not float32"),
        ("run", "begin_run must leave every score as it is"),
    ],
)
def test_a_fold_that_breaks_a_rule_is_told_which(rule, words):
    with pytest.raises(AssertionError, match=words):
        testing.check_score(Score("mine", lambda labels: labels + 1.0, Broken(rule)), *BATCHES)


def test_a_measure_that_is_not_pure_is_told():
    state = []

    def measure(labels):
        state.append(0)
        return labels + float(len(state))

    with pytest.raises(AssertionError, match="measure is not pure"):
        testing.check_score(Score("mine", measure, Last()), *BATCHES)


def test_a_measure_that_writes_to_its_input_is_told():
    def measure(logits):
        logits[:] = 0
        return logits[:, 0]

    batches = [(rows, {name: array.copy() for name, array in seen.items()}) for rows, seen in BATCHES]
    with pytest.raises(AssertionError, match="changed its input 'logits'"):
        testing.check_score(Score("mine", measure, Last()), *batches)


@dataclass(frozen=True)
class BadPolicy:
    """Keeps the first row, and breaks one rule."""

    rule: str

    def plan(self, store, *, epoch, seed):
        bits = np.zeros(-(-len(store) // 8), np.uint8)
        bits[0] = 1
        if self.rule == "impure":
            bits[0] |= 1 << np.random.default_rng().integers(1, 3)
        if self.rule == "beyond":
            bits[-1] |= 0x80
        counts = np.array([0]) if self.rule == "never" else None
        if self.rule == "global":
            np.random.random()  # noqa: NPY002 - what the contract forbids
        plan = make(store, self, epoch + (self.rule == "epoch"), seed, kept=bits, counts=counts)
        return replace(plan, weights=np.array([np.nan], np.float32)) if self.rule == "weight" else plan


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("impure", "must give the same plan"),
        ("beyond", "a bit beyond the last row is set"),
        ("weight", "loss weights must be finite"),
        ("epoch", "names the epoch and seed it was made for"),
        ("global", "NumPy's global generator"),
    ],
)
def test_a_policy_that_breaks_a_rule_is_told_which(rule, words):
    with pytest.raises(AssertionError, match=words):
        testing.check_policy(BadPolicy(rule), scored(np.arange(9.0)), seeds=range(8))


def test_a_policy_that_breaks_no_rule_passes():
    testing.check_policy(BadPolicy("none"), scored(np.arange(9.0)))
    testing.check_policy(Prune(0.5, "loss"), scored(np.arange(9.0)))


def test_the_memory_storage_keeps_the_contract():
    testing.check_storage(MemoryStorage)


class Forgetful(LocalStorage):
    """Shares by a link that dies with its source."""

    def share(self, source, target):
        (self.path / target).parent.mkdir(parents=True, exist_ok=True)
        (self.path / target).symlink_to(self.path / source)


def test_a_storage_whose_shared_objects_die_is_told(tmp_path):
    with pytest.raises((AssertionError, FileNotFoundError)):
        testing.check_storage(lambda: Forgetful(tmp_path))


class Whole(MemoryStorage):
    def get(self, name, start=0, stop=None):
        return super().get(name)


class LastWins(MemoryStorage):
    def swing(self, value, *, expected):
        super().swing(value, expected=self.pointer())


class Racy(MemoryStorage):
    """Looks, waits, and swings."""

    def swing(self, value, *, expected):
        if self.pointer() != expected:
            raise PointerMoved.at(self.where)
        time.sleep(0.002)
        self.put(POINTER, [value])


class Open(MemoryStorage):
    def lease(self, *, steal=False):
        return super().lease(steal=True)


class Stuck(MemoryStorage):
    def let_go(self, lease):
        pass


class Careless(MemoryStorage):
    def held(self, prefix):
        return False


class Hidden(MemoryStorage):
    def names(self, prefix=""):
        return [name for name in super().names(prefix) if name != POINTER]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Whole, r"get\(10, 20\) does not give these bytes"),
        (LastWins, "swing of a pointer that does not hold expected=None must raise PointerMoved"),
        (Racy, "swings that succeeded left a count of .*: some were lost"),
        (Open, "a second lease must raise StoreLocked while the first is held"),
        (Stuck, "a lease that was released is still held"),
        (Careless, "a prefix that was just held is not held"),
        (Hidden, "names must list the pointer as CURRENT"),
    ],
)
def test_a_storage_that_breaks_a_rule_is_told_which(kind, words):
    with pytest.raises(AssertionError, match=words):
        testing.check_storage(kind)


def test_the_contract_needs_no_pytest():
    import pathlib

    assert "pytest" not in pathlib.Path(testing.__file__).read_text()
    assert (EL2N, Forgetting, Loss) == (scoring.EL2N, scoring.Forgetting, scoring.Loss)
