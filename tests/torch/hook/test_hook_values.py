"""What the hook does with values that are not finite, what `record` takes, and when what it holds reaches the store."""

import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from adaptive_sampler import AdaptiveSampler
from adaptive_sampler.errors import InvalidValue, RowError
from adaptive_sampler.scoring import EL2N, Last, Loss, Margin, Score, measures
from adaptive_sampler.selection import Prune
from adaptive_sampler.torch import LossHook
from tests.torch.samples import CLASSES, N, make_store

BAD = [torch.nan, torch.inf]
ROWS = torch.arange(4)


def logits(bad=None, at=2):
    made = torch.zeros(4, CLASSES)
    if bad is not None:
        made[at, 0] = bad
    return made.requires_grad_()


def labels():
    return torch.zeros(4, dtype=torch.int64)


def hook(*scores, **arguments):
    return LossHook(nn.CrossEntropyLoss(), make_store(*scores), **arguments)


# -- values that are not finite ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", BAD)
def test_a_row_with_a_bad_value_is_left_out_of_every_score_and_the_others_are_recorded(bad):
    made = hook(Loss(), EL2N(), Margin())
    with pytest.warns(
        RuntimeWarning, match="1 of 4 observations have a value that is not finite; they are not recorded"
    ):
        made(logits(bad), labels(), rows=ROWS)
    assert [made.store.count(name)[:4].tolist() for name in made.store.names] == [[1, 1, 0, 1]] * 3


def test_a_batch_of_nothing_but_ignored_labels_is_no_update():
    made = hook(EL2N())
    made(logits(), torch.full((4,), -100), rows=ROWS)
    made.flush()
    assert made.store.made_from.updates == 0


def test_rows_of_a_class_that_is_ignored_are_left_out_and_the_others_are_recorded():
    made = LossHook(nn.CrossEntropyLoss(ignore_index=1), make_store(EL2N()))
    made(logits(), torch.tensor([0, 1, 2, 1]), rows=ROWS)
    assert made.store.count("el2n")[:4].tolist() == [1, 0, 1, 0]


def test_skipped_counts_the_observations_left_out():
    made = hook()
    with pytest.warns(RuntimeWarning):
        made(logits(torch.nan), labels(), rows=ROWS)
    made(logits(torch.nan), labels(), rows=ROWS)
    assert made.skipped == 2


def test_it_warns_once():
    made = hook()
    with pytest.warns(RuntimeWarning):
        made(logits(torch.nan), labels(), rows=ROWS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made(logits(torch.nan), labels(), rows=ROWS)


def test_minus_infinity_among_the_logits_is_no_bad_value_where_the_measures_are_finite():
    made = hook()
    made(logits(-torch.inf, at=2).detach().roll(1, dims=1).requires_grad_(), labels(), rows=ROWS)
    assert (made.skipped, made.store.observed("el2n")) == (0, 4)


@pytest.mark.parametrize("bad", BAD)
def test_told_to_raise_it_raises_at_the_first_and_records_nothing_of_the_batch(bad):
    made = hook(nonfinite="raise")
    with pytest.raises(InvalidValue, match=r"of row 2 is (nan|inf).*Nothing of the batch was recorded"):
        made(logits(bad), labels(), rows=ROWS)
    assert made.store.observed("loss") == 0


@pytest.mark.filterwarnings("ignore:.*observations have a value")
@pytest.mark.parametrize(("share", "raises"), [(0.1, True), (0.3, False)])
def test_above_a_share_of_bad_values_it_raises_once_it_has_seen_a_thousand(share, raises):
    made = hook(max_skipped=share)
    for _ in range(249):  # a quarter of 996 rows: too few to judge
        made(logits(torch.nan), labels(), rows=ROWS)
    if raises:
        with pytest.raises(
            InvalidValue, match=r"250 of 1000 observations were not finite, more than max_skipped=0.1.*diverged"
        ):
            made(logits(torch.nan), labels(), rows=ROWS)
    else:
        made(logits(torch.nan), labels(), rows=ROWS)
        assert made.skipped == 250


def test_a_row_outside_the_store_is_an_error_and_records_nothing():
    made = hook()
    with pytest.raises(RowError, match=f"row {N} at position 3"):
        made(logits(), labels(), rows=torch.tensor([0, 1, 2, N]))
    assert made.store.observed("loss") == 0


# -- rows and record ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [[3, 1, 0, 2], np.array([3, 1, 0, 2]), torch.tensor([3, 1, 0, 2], dtype=torch.int32)])
def test_rows_may_be_a_list_an_array_or_a_tensor(rows):
    made = hook(Score("first", lambda logits: logits[:, 0], Last()))
    made(torch.tensor([[3.0, 0], [1, 0], [0, 0], [2, 0]], requires_grad=True), labels(), rows=rows)
    assert made.store["first"][:4].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("rows", [[0.0, 1.0, 2.0, 3.0], [True] * 4, [[0, 1, 2, 3]], 3])
def test_rows_that_are_no_integers_of_one_axis_are_refused(rows):
    with pytest.raises(InvalidValue, match=r"rows have shape .* and dtype .*: one axis of integers is needed"):
        hook()(logits(), labels(), rows=rows)


@pytest.mark.parametrize("number", [3, 5])
def test_rows_of_another_number_are_refused(number):
    with pytest.raises(InvalidValue, match=f"{number} rows for 4 samples: one row a sample is needed"):
        hook()(logits(), labels(), rows=list(range(number)))


def test_rows_that_come_twice_in_a_batch_fold_in_order():
    made = hook(Score("first", lambda logits: logits[:, 0], Last()))
    made(torch.tensor([[3.0, 0], [1, 0], [0, 0], [2, 0]], requires_grad=True), labels(), rows=[5, 5, 6, 5])
    assert made.store["first"][5] == 2


def test_record_takes_what_a_loop_measured_elsewhere():
    made = hook(Loss())
    made.record(torch.tensor([4, 2]), loss=torch.tensor([0.5, 1.5], requires_grad=True))
    assert made.store["loss"][[4, 2]].tolist() == [0.5, 1.5]


def test_record_takes_token_losses_by_their_mean():
    made, loss = hook(Loss()), torch.tensor([[1.0, 3.0], [5.0, 7.0]])
    made.record([0, 1], loss=measures.token_mean(loss, torch.tensor([[1, 1], [1, 0]])))
    assert made.store["loss"][:2].tolist() == [2, 5]


def test_record_takes_plain_numbers():
    made = hook(Loss())
    made.record([1], loss=[2.5])
    assert made.store["loss"][1] == 2.5


def test_record_records_under_no_grad_too():
    made = hook(Loss())
    with torch.no_grad():
        made.record([1], loss=torch.tensor([2.5]))
    assert made.store.observed("loss") == 1


@pytest.mark.parametrize("loss", [["1", "2"], [[1], {}], [1, 2]])
def test_record_refuses_what_is_no_number(loss):
    values = np.array(loss, "m8[s]" if loss == [1, 2] else None if loss[0] == "1" else object)
    with pytest.raises((TypeError, InvalidValue)):
        hook(Loss()).record([0, 1], loss=values)


def test_record_leaves_out_what_float32_cannot_hold():
    made = hook(Loss())
    with pytest.warns(RuntimeWarning, match="1 of 3 observations have a value that is not finite"):
        made.record([0, 1, 2], loss=np.array([1.0, 1e300, 2.0]))
    assert made.store.observed("loss") == 2


@pytest.mark.parametrize("loss", [torch.ones(3), torch.tensor(1.0)])
def test_record_refuses_another_number_of_values_than_rows(loss):
    with pytest.raises(InvalidValue, match=r"one loss a sample|loss: .* values for 2 rows; one value a row is needed"):
        hook(Loss()).record([0, 1], loss=loss)


def test_a_score_of_ones_own_sees_the_loss_through_the_hook():
    made = hook(Score("scaled", lambda logits, loss=None: loss * 2, Last()))
    made(logits(), labels(), rows=ROWS)
    assert made.store["scaled"][:4].tolist() == pytest.approx([2 * np.log(CLASSES)] * 4, rel=1e-6)


@dataclass(frozen=True)
class Either:
    """A score of the loss or, where there is none, of a gradient."""

    name: str = "either"
    fold: object = Last()
    inputs = (("loss",), ("gradient",))

    def measure(self, loss=None, gradient=None):
        return gradient if loss is None else loss


@dataclass(frozen=True)
class Fed:
    """A score that no observation feeds."""

    name: str = "fed"
    fold: object = Last()
    inputs = ()
    measure = None


def test_a_score_with_another_alternative_gets_the_loss_it_prefers():
    made = hook(Either(), EL2N())
    made(logits(), labels(), rows=ROWS)
    assert made.store["either"][:4].tolist() == pytest.approx([np.log(CLASSES)] * 4, rel=1e-6)


class Squared(EL2N):
    """A built-in score with a measure of one's own, in torch's words."""

    def measure(self, logits, labels):
        return logits.softmax(1).gather(1, labels[:, None]).squeeze(1) ** 2


def test_a_measure_of_ones_own_is_given_tensors_beside_built_in_scores_too():
    seen = Score("seen", lambda logits, labels, loss: torch.stack([logits[:, 0], labels, loss]).sum(0), Last())
    made = hook(Loss(), EL2N(), seen, Squared(name="squared"))
    made(logits(), labels(), rows=ROWS)
    assert made.store["seen"][:4].tolist() == pytest.approx([np.log(CLASSES)] * 4, rel=1e-6)
    assert made.store["squared"][:4].tolist() == pytest.approx([1 / CLASSES**2] * 4, rel=1e-6)


@pytest.mark.parametrize(
    ("scores", "takes", "rather"),
    [
        ([Loss(), EL2N()], True, False),
        ([EL2N()], False, False),
        ([Loss(), Score("mine", lambda loss: loss, Last())], True, True),
        ([Score("mine", lambda logits, loss=None: logits[:, 0], Last())], True, True),
        ([Either()], True, True),
        ([Fed()], False, False),
    ],
)
def test_a_store_knows_which_scores_take_the_loss_and_would_rather_not_have_logits(scores, takes, rather):
    store = make_store(*scores)
    assert (store.session.takes("loss"), store.session.takes("loss", instead_of_logits=True)) == (takes, rather)
    store.add(Score("late", lambda loss: loss, Last()))
    assert store.session.takes("loss", instead_of_logits=True)


# -- when it reaches the store -----------------------------------------------------------------------------------------


class Held:
    """A hook's transfer as a device would have it: nothing arrives until it is waited for."""

    def __init__(self, transfer):
        self.send, self._transfer = transfer.send, transfer

    def __len__(self):
        return len(self._transfer)

    def receive(self, *, wait):
        return self._transfer.receive(wait=True) if wait else iter(())


def hold(hook):
    recorder = hook._adaptive_sampler.recorder
    recorder.transfer = Held(recorder.transfer)


@pytest.fixture
def held():
    """A hook that holds two steps, the second on a row of the first."""
    made = hook(Loss())
    hold(made)
    made.record([0, 1], loss=torch.tensor([1.0, 2.0]))
    made.record([1], loss=torch.tensor([7.0]))
    return made


READS = {
    "a score": lambda store: store["loss"],
    "a slice": lambda store: store.values("loss", slice(0, 2)),
    "the counts": lambda store: store.count("loss"),
    "the epochs": lambda store: store.last_seen("loss"),
    "how many": lambda store: store.observed("loss"),
    "what a plan is made from": lambda store: store.made_from,
    "a commit": lambda store: store.commit(),
    "an update": lambda store: store.update([5], loss=[1.0]),
    "a fold": lambda store: store.fold("loss", [5], [1.0]),
    "a new run": lambda store: store.begin_run("second"),
    "more rows": lambda store: store.grow(N + 1),
    "a plan": lambda store: Prune(0.5, "loss").plan(store, epoch=0, seed=0),
    "a sampler": lambda store: len(AdaptiveSampler(store, Prune(0.5, "loss"))),
}


@pytest.mark.parametrize("read", READS)
def test_what_a_hook_holds_is_folded_before_anything_reads_or_writes(held, read):
    waiting = held._adaptive_sampler.recorder.transfer
    assert len(waiting) == 2
    READS[read](held.store)
    assert len(waiting) == 0


def test_what_a_hook_holds_is_folded_in_step_order(held):
    assert held.store["loss"][:2].tolist() == [1, 7]


def test_a_step_keeps_the_epoch_in_which_it_was_recorded(held):
    held.store.epoch = 5
    assert held.store.last_seen("loss")[:2].tolist() == [0, 0]


def test_a_bad_step_does_not_take_the_later_ones_with_it():
    made = hook(Loss(), nonfinite="raise")
    hold(made)
    made.record([0], loss=torch.tensor([torch.nan]))
    made.record([1], loss=torch.tensor([2.0]))
    with pytest.raises(InvalidValue, match="loss of row 0 is nan"):
        made.flush()
    assert made.store["loss"][1] == 2
