"""What a measure refuses, and what it takes: shapes, labels out of range, integer types, arrays of mixed libraries."""

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.arrays import to_host
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import EL2N, Loss, measures
from tests.libraries import LIBRARIES, ONE_EACH

WITH_LABELS = ["el2n", "cross_entropy", "margin", "confidence", "incorrect"]
ON_HOST = ["numpy float32", "torch float32"]


def measure(name, logits, labels):
    return getattr(measures, name)(logits, labels)


@pytest.mark.parametrize("library", ON_HOST)
@pytest.mark.parametrize("name", WITH_LABELS)
@pytest.mark.parametrize("label", [-1, 3, -100])
def test_a_label_outside_the_classes_is_refused_with_its_position(name, library, label):
    logits, labels = LIBRARIES[library](np.zeros((2, 3))), LIBRARIES[library](np.array([2, label]))
    with pytest.raises(InvalidValue, match=rf"label {label} at position 1 is outside 0 … 2.*Drop such samples"):
        measure(name, logits, labels)


@pytest.mark.parametrize("name", WITH_LABELS)
@pytest.mark.parametrize("label", [-1, 3])
def test_where_looking_would_wait_for_the_device_a_label_outside_the_classes_is_a_nan(name, label):
    logits, labels = LIBRARIES["jax float32"](np.zeros((2, 3))), LIBRARIES["jax float32"](np.array([2, label]))
    assert np.isnan(to_host(measure(name, logits, labels))).tolist() == [False, True]


@pytest.mark.parametrize("library", ONE_EACH)
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32, np.int64])
def test_labels_may_be_any_integers_also_narrower_than_the_number_of_classes(library, dtype):
    logits = np.zeros((2, 300))
    logits[:, 100] = 5
    labels = LIBRARIES[library](np.array([100, 50], dtype))
    assert to_host(measures.incorrect(LIBRARIES[library](logits), labels)).tolist() == [0, 1]


@pytest.mark.parametrize("library", ONE_EACH)
@pytest.mark.parametrize("other", [*ONE_EACH, "list", "read-only"])
@pytest.mark.parametrize("name", WITH_LABELS)
def test_labels_may_come_from_another_library_than_the_logits(name, library, other):
    fixed = np.array([2, 0])
    fixed.setflags(write=False)
    labels = [2, 0] if other == "list" else fixed if other == "read-only" else LIBRARIES[other](fixed.copy())
    logits = np.array([[1.0, 2.0, 3.0], [3.0, 1.0, 0.0]])
    answer = measure(name, LIBRARIES[library](logits), labels)
    np.testing.assert_allclose(to_host(answer), measure(name, logits, fixed), rtol=1e-6)


@pytest.mark.parametrize("library", ONE_EACH)
def test_a_mask_may_come_from_another_library_than_the_loss(library):
    assert to_host(measures.token_mean(LIBRARIES[library](np.array([[1.0, 9.0]])), [[1, 0]])).tolist() == [1.0]


def test_plain_lists_are_arrays_too():
    assert measures.margin([[0, 3, 5]], [1]).tolist() == [-2.0]


@pytest.mark.parametrize("name", [*WITH_LABELS, "entropy"])
@pytest.mark.parametrize("shape", [(3,), (2, 1), (2, 3, 4), ()])
def test_logits_that_are_not_batch_by_classes_are_refused_with_their_shape(name, shape):
    arguments = [np.zeros(shape)] if name == "entropy" else [np.zeros(shape), np.zeros(2, np.int64)]
    with pytest.raises(InvalidValue, match=r"logits have shape \(.*\): \(batch, classes\) with two classes or more"):
        getattr(measures, name)(*arguments)


@pytest.mark.parametrize("name", WITH_LABELS)
def test_labels_of_another_batch_are_refused(name):
    with pytest.raises(InvalidValue, match=r"labels \(3,\) and logits \(2, 3\) disagree"):
        measure(name, np.zeros((2, 3)), np.zeros(3, np.int64))


@pytest.mark.parametrize("name", WITH_LABELS)
@pytest.mark.parametrize("labels", [np.array([0.0, 1.0]), np.array([True, False])])
def test_labels_that_are_no_integers_are_refused_with_the_remedy(name, labels):
    with pytest.raises(InvalidValue, match=f"labels have dtype {labels.dtype}.*Cast them to int64"):
        measure(name, np.zeros((2, 3)), labels)


@pytest.mark.parametrize("name", ["margin", "confidence", "incorrect"])
def test_a_measure_of_one_class_refuses_distributions_and_names_those_that_take_them(name):
    with pytest.raises(InvalidValue, match="el2n and cross_entropy alone"):
        measure(name, np.zeros((2, 3)), np.full((2, 3), 1 / 3))


@pytest.mark.parametrize("name", ["el2n", "cross_entropy"])
def test_distributions_over_other_classes_are_refused(name):
    with pytest.raises(InvalidValue, match=r"distributions \(2, 4\) must have the logits' shape \(2, 3\)"):
        measure(name, np.zeros((2, 3)), np.full((2, 4), 0.25))


@pytest.mark.parametrize("shapes", [((2,), (2,)), ((2, 3), (2, 4)), ((2, 3, 1), (2, 3, 1))])
def test_token_mean_refuses_what_is_not_batch_by_tokens(shapes):
    with pytest.raises(InvalidValue, match=r"both must be \(batch, tokens\)"):
        measures.token_mean(np.zeros(shapes[0]), np.zeros(shapes[1]))


def test_the_loss_score_refuses_losses_of_tokens_and_names_token_mean():
    with pytest.raises(InvalidValue, match=r"loss has shape \(2, 5\).*token_mean"):
        Loss().measure(loss=np.zeros((2, 5)))


# -- label rows that are no distribution -------------------------------------------------------------------------------

TAKES_DISTRIBUTIONS = pytest.mark.parametrize("name", ["el2n", "cross_entropy"])
NO_DISTRIBUTIONS = {
    "several classes": ([1.0, 0.0, 1.0], "sums to 2"),
    "no class": ([0.0, 0.0, 0.0], "sums to 0"),
    "a target of a regression": ([0.3, -1.2, 1.9], "has the value -1.2"),
    "counts": ([3.0, 1.0, 0.0], "sums to 4"),
    "infinite": ([np.inf, 0.0, 0.0], "sums to inf"),
}


@TAKES_DISTRIBUTIONS
@pytest.mark.parametrize("classes", [3, 120])  # one pass of a kernel, and the operations of a library
@pytest.mark.parametrize("library", ON_HOST)
@pytest.mark.parametrize("row", NO_DISTRIBUTIONS)
def test_a_label_row_that_is_no_distribution_is_refused_with_its_position(name, classes, library, row):
    values, words = NO_DISTRIBUTIONS[row]
    labels = np.zeros((3, classes))
    labels[:, 1] = 1
    labels[2, :3] = values
    with pytest.raises(
        InvalidValue, match=rf"label row at position 2 {words}: .*>= 0 and sums to 1 within 0.001.*leave"
    ):
        measure(name, LIBRARIES[library](np.zeros((3, classes))), LIBRARIES[library](labels))


@TAKES_DISTRIBUTIONS
@pytest.mark.parametrize("dtype", [np.int64, np.bool_])
def test_many_hot_labels_are_refused_in_any_type(name, dtype):
    with pytest.raises(InvalidValue, match="label row at position 0 sums to 2"):
        measure(name, np.zeros((2, 3)), np.array([[1, 1, 0], [1, 0, 0]], dtype))


@TAKES_DISTRIBUTIONS
@pytest.mark.parametrize("library", ["numpy float32", "numpy float64", "torch float32", "torch float64"])
@pytest.mark.parametrize(("total", "refused"), [(0.999, False), (1.001, False), (0.9989, True), (1.0011, True)])
def test_a_sum_may_be_a_thousandth_off(name, library, total, refused):
    logits, labels = LIBRARIES[library](np.zeros((1, 2))), LIBRARIES[library](np.array([[0.5, total - 0.5]]))
    if refused:
        with pytest.raises(InvalidValue, match=r"sums to .* within 0.001"):
            measure(name, logits, labels)
    else:
        assert np.isfinite(to_host(measure(name, logits, labels))).all()


@TAKES_DISTRIBUTIONS
@pytest.mark.parametrize("library", ["numpy float16", "torch float16", "torch bfloat16"])
@pytest.mark.parametrize("halves", ["logits", "labels"])
@pytest.mark.parametrize(("total", "refused"), [(0.9921875, False), (1.0078125, False), (1.0234375, True)])
def test_in_half_precision_it_may_be_a_hundredth(name, library, halves, total, refused):
    single = LIBRARIES[library.split()[0] + " float32"]
    logits = (LIBRARIES[library] if halves == "logits" else single)(np.zeros((1, 2)))
    labels = (LIBRARIES[library] if halves == "labels" else single)(np.array([[0.5, total - 0.5]]))
    if refused:
        with pytest.raises(InvalidValue, match=r"sums to .* within 0.01"):
            measure(name, logits, labels)
    else:
        assert np.isfinite(to_host(measure(name, logits, labels))).all()


@pytest.mark.parametrize("halves", ["logits", "labels"])
def test_a_store_too_knows_that_what_it_was_given_was_of_half_precision(halves):
    torch = pytest.importorskip("torch")
    given = {"logits": torch.zeros(1, 2), "labels": torch.tensor([[0.5, 0.5078125]])}
    with ScoreStore.create(None, 1, [EL2N()]) as store:
        with pytest.raises(InvalidValue, match=r"sums to 1\.00781"):
            store.update([0], **given)
        store.update([0], **given | {halves: given[halves].bfloat16()})
        assert store.observed("el2n") == 1


@TAKES_DISTRIBUTIONS
def test_where_looking_would_wait_for_the_device_a_row_that_is_no_distribution_is_a_nan(name):
    jax = LIBRARIES["jax float32"]
    labels = jax(np.array([[0.0, 1.0], [1.0, 1.0], [1.5, -0.5], [0.25, 0.75]]))
    assert np.isnan(to_host(measure(name, jax(np.zeros((4, 2))), labels))).tolist() == [False, True, True, False]


@TAKES_DISTRIBUTIONS
@pytest.mark.parametrize("library", ONE_EACH)
def test_a_nan_in_a_label_row_stays_a_nan_also_beside_what_would_be_refused(name, library):
    labels = LIBRARIES[library](np.array([[np.nan, -3.0], [0.0, 1.0]]))
    assert np.isnan(to_host(measure(name, LIBRARIES[library](np.zeros((2, 2))), labels))).tolist() == [True, False]
