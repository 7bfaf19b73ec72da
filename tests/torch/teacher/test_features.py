"""A teacher's features are those of the paper, in any precision; what has none is refused and changes nothing."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from adaptive_sampler.errors import InvalidValue, NotFinite  # noqa: E402
from adaptive_sampler.torch import Teacher  # noqa: E402
from adaptive_sampler.torch.teacher.features import Student, features_of  # noqa: E402
from tests.references.teacher import teacher_features  # noqa: E402


@given(st.data())
def test_features_are_those_of_the_twin(data):
    classes, batch = data.draw(st.integers(2, 5)), data.draw(st.integers(1, 6))
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    logits = rng.normal(0, data.draw(st.sampled_from([0.1, 3, 20])), (batch, classes)).astype(np.float32)
    labels, kept = rng.integers(0, classes, batch), rng.uniform(0, 3, data.draw(st.integers(0, 4)))
    student = Student(data.draw(st.integers(0, 30)), float(kept.sum()), len(kept), data.draw(st.floats(0, 1)))
    found, losses = features_of(torch.tensor(logits), torch.tensor(labels), student.features(20, classes))
    twin = teacher_features(logits, labels, student.calls, 20, kept, student.best)
    np.testing.assert_allclose(found, twin, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(losses, twin[:, -2] * math.log(classes), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_logits_of_any_precision_are_seen_as_float32(dtype):
    logits = torch.randn(4, 3).to(dtype)
    labels, teacher = torch.tensor([0, 1, 2, 0]), Teacher(3, 10)
    assert torch.equal(teacher.probabilities(logits, labels), teacher.probabilities(logits.float(), labels))


def test_a_class_that_the_model_rules_out_has_the_probability_0():
    logits = torch.tensor([[0.0, -math.inf, 1.0]])
    found, _ = features_of(logits, torch.tensor([0]), [0, 1, 0])
    assert found[0, 7] == 0
    assert found.isfinite().all()


def test_the_models_features_follow_the_training():
    teacher = Teacher(2, steps=10, bias=50)  # keeps everything
    logits, labels = torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])
    logits[0, 0] = 1
    assert teacher._student.features(10, 2) == [0, 1, 0]
    teacher(logits, labels)
    teacher.validated(0.75)
    teacher.validated(0.5)
    loss = float(torch.nn.functional.cross_entropy(logits, labels)) / math.log(2)
    assert teacher._student.features(10, 2) == pytest.approx([0.1, loss, 0.75])
    teacher.begin()
    assert teacher._student.features(10, 2) == [0, 1, 0]


def test_losses_whose_float32_sum_would_be_inf_do_not_stop_what_comes():
    teacher = Teacher(2, steps=10, bias=50)  # keeps everything
    for _ in range(3):
        assert teacher(torch.tensor([[0, 2e38]] * 4), torch.zeros(4).long()).all()


GOOD = torch.zeros(3, 2), torch.tensor([0, 1, 0])


@pytest.mark.parametrize(
    ("logits", "labels", "error", "words"),
    [
        (
            torch.zeros(3, 4),
            GOOD[1],
            InvalidValue,
            r"shape \(3, 4\), and this teacher was made for 2 classes.*Teacher\(4",
        ),
        (torch.zeros(3), GOOD[1], InvalidValue, r"logits are torch.float32 of shape \(3,\)"),
        (torch.zeros(3, 2).long(), GOOD[1], InvalidValue, "a floating-point tensor"),
        (None, GOOD[1], InvalidValue, "logits are NoneType"),
        (GOOD[0], torch.tensor([0, 1]), InvalidValue, r"labels are torch.int64 of shape \(2,\).*shape \(3,\)"),
        (GOOD[0], torch.zeros(3), InvalidValue, "labels are torch.float32"),
        (GOOD[0], [0, 1, 0], InvalidValue, "labels are list"),
        (GOOD[0], torch.tensor([0, -100, 1]), InvalidValue, "label of sample 1 is -100: labels are 0 … 1"),
        (GOOD[0], torch.tensor([0, 1, 2]), InvalidValue, "label of sample 2 is 2"),
        (torch.tensor([[0, 0], [0, math.nan], [0, 0]]), GOOD[1], NotFinite, "loss of sample 1 of 3"),
        (torch.tensor([[0, 0], [0, 0], [math.inf, 0]]), GOOD[1], NotFinite, "loss of sample 2 of 3"),
        (torch.tensor([[-math.inf, 0], [0, 0], [0, 0]]), GOOD[1], NotFinite, "loss of sample 0 of 3"),
    ],
)
def test_what_has_no_features_is_refused_and_nothing_is_recorded(logits, labels, error, words):
    teacher = Teacher(2, 10)
    before = repr(teacher.state_dict())
    with pytest.raises(error, match=words):
        teacher(logits, labels)
    assert repr(teacher.state_dict()) == before
    assert len(teacher(*GOOD)) == 3  # it goes on


def test_features_of_ones_own_are_seen_beside_the_papers():
    teacher = Teacher(2, 10, hidden=0, more=2)
    with torch.no_grad():
        teacher.policy.weight.zero_()
        teacher.policy.weight[0, -1] = 5.0
    more = torch.tensor([[9, -10], [9, 0], [9, 10]])
    assert teacher.probabilities(*GOOD, more=more).tolist() == pytest.approx([0, 0.8808, 1], abs=1e-4)


@pytest.mark.parametrize(
    ("made", "more", "error", "words"),
    [
        (2, None, InvalidValue, r"more= is NoneType: this teacher was made with more=2"),
        (2, torch.zeros(3, 1), InvalidValue, r"more= is torch.float32 of shape \(3, 1\).*shape \(3, 2\)"),
        (0, torch.zeros(3, 1), InvalidValue, "made with more=0"),
        (1, torch.tensor([[0.0], [math.nan], [0]]), NotFinite, "more= is not finite of sample 1"),
    ],
)
def test_other_features_than_those_agreed_on_are_refused(made, more, error, words):
    with pytest.raises(error, match=words):
        Teacher(2, 10, more=made)(*GOOD, more=more)
