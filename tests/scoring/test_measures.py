"""What one observation says of a sample: the same number from every array library, and the numbers of the papers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from adaptive_sampler.arrays import to_host
from adaptive_sampler.scoring import EL2N, Loss, measures
from adaptive_sampler.scoring.one_pass import one_pass
from tests import references
from tests.libraries import FULL, HALF, LIBRARIES, ONE_EACH

NAMES = sorted(references.MEASURES)


def run(name, logits, labels):
    """The measure's answer as NumPy."""
    function = getattr(measures, name)
    return to_host(function(logits) if name == "entropy" else function(logits, labels))


def twin(name, logits, labels):
    """The twin's answer, sample by sample."""
    return [references.MEASURES[name](list(map(float, z)), int(y)) for z, y in zip(logits, labels, strict=True)]


@st.composite
def batches(draw, least=0):
    """(batch, classes) float32 logits, and labels."""
    samples, classes = draw(st.integers(least, 6)), draw(st.integers(2, 7))
    logit = st.floats(-80, 80, width=16)  # a number that half precision has, so that every library sees the same
    logits = draw(st.lists(st.lists(logit, min_size=classes, max_size=classes), min_size=samples, max_size=samples))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=samples, max_size=samples))
    return np.array(logits, np.float32).reshape(samples, classes), np.array(labels, np.int64)


@pytest.mark.parametrize("name", NAMES)
@given(batch=batches(), library=st.sampled_from(FULL))
def test_a_measure_equals_its_float64_twin_in_every_library(name, library, batch):
    logits, labels = batch
    ours = run(name, LIBRARIES[library](logits), LIBRARIES[library](labels))
    np.testing.assert_allclose(ours, twin(name, *batch), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [3, 100])
@given(
    logits=arrays(np.float32, (5, 3), elements=st.sampled_from([0.0, 1.5, -40, 3e38, -3e38, np.inf, -np.inf, np.nan])),
    labels=arrays(np.int64, 5, elements=st.integers(0, 2)),
)
def test_one_pass_on_the_host_says_of_any_logits_what_the_librarys_operations_say(name, classes, logits, labels):
    logits = np.concatenate([logits, np.full((5, classes - 3), -np.inf, np.float32)], axis=1)
    passed = one_pass(logits, labels)
    assert passed is not None
    with_gradient = LIBRARIES["torch requires_grad"]
    operations = run(name, with_gradient(logits), with_gradient(labels))
    np.testing.assert_allclose(run(name, logits, labels), operations, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [31, 127, 200, 255, 256])
def test_many_classes_are_measured_as_few_are(name, classes):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 9, (3, classes)).astype(np.float32), rng.integers(0, classes, 3)
    np.testing.assert_allclose(run(name, logits, labels), twin(name, logits, labels), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("classes", [3, 100])
@pytest.mark.parametrize("library", ["numpy float16", "numpy float32", "numpy float64"])
def test_numpys_logits_take_one_pass(library, classes):
    assert one_pass(LIBRARIES[library](np.zeros((4, classes))), np.zeros(4, np.int64)) is not None


@pytest.mark.parametrize("library", ["torch float32", "torch requires_grad", "jax float32"])
def test_logits_of_a_library_that_may_follow_them_do_not(library):
    assert one_pass(LIBRARIES[library](np.zeros((4, 3))), LIBRARIES[library](np.zeros(4, np.int64))) is None


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch's own forward mode
@pytest.mark.parametrize("name", NAMES)
def test_a_measure_is_differentiated_forward_and_mapped_by_torch(name):
    torch = pytest.importorskip("torch")
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    function = getattr(measures, name)
    given = (lambda z: function(z)) if name == "entropy" else (lambda z: function(z, labels))
    if name == "entropy":  # the others look at their labels' values, which vmap refuses
        assert torch.func.vmap(given)(logits[None]).shape == (1, 4)
    if name != "incorrect":
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(logits, torch.ones_like(logits))
            assert torch.autograd.forward_ad.unpack_dual(given(dual)).tangent is not None


@pytest.mark.parametrize("dtype", [">f4", ">f8", np.longdouble])
@pytest.mark.parametrize("name", NAMES)
def test_floats_of_any_order_and_length_are_measured(name, dtype):
    logits, labels = np.array([[1.0, 2.5, -3.0], [0.125, 0.0, 7.0]]), np.array([1, 2])
    np.testing.assert_allclose(run(name, logits.astype(dtype), labels), twin(name, logits, labels), rtol=2e-6)


@pytest.mark.parametrize("library", HALF)
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_logits_are_measured_in_float32(name, library):
    logits = np.array([[1.0, 2.5, -3.0], [0.125, 0.0, 7.0], [-60000 if "float16" in library else -1e30, 3.0, 3.5]])
    labels = np.array([1, 2, 1])
    half = LIBRARIES[library](logits)
    exact = to_host(half).astype(np.float64)
    np.testing.assert_allclose(
        run(name, half, LIBRARIES[library](labels)), twin(name, exact, labels), rtol=2e-6, atol=2e-6
    )


@pytest.mark.parametrize("library", sorted(LIBRARIES))
@pytest.mark.parametrize("name", NAMES)
def test_the_answer_is_float32_one_a_sample_in_the_arrays_own_library(name, library):
    logits, labels = LIBRARIES[library](np.zeros((4, 3))), LIBRARIES[library](np.zeros(4, np.int64))
    answer = getattr(measures, name)(*([logits] if name == "entropy" else [logits, labels]))
    assert isinstance(answer, type(logits))
    assert (to_host(answer).dtype, answer.shape) == (np.float32, (4,))


@pytest.mark.parametrize(
    ("logits", "label", "norm", "squared"),
    [
        ([0, 0], 0, 0.707107, 0.500000),
        ([2, 0], 0, 0.168578, 0.028419),
        ([2, 0], 1, 1.245635, 1.551607),
        ([0, 0, 0], 0, 0.816497, 0.666667),
        ([1, 2, 3], 2, 0.424336, 0.180061),
        ([1, 2, 3], 0, 1.153465, 1.330482),
    ],
)
def test_el2n_is_the_norm_of_the_error_vector_and_squared_on_request(logits, label, norm, squared):
    logits, labels = np.array([logits], np.float32), np.array([label])
    assert measures.el2n(logits, labels)[0] == pytest.approx(norm, abs=1e-6)
    assert EL2N(squared=True).measure(logits, labels)[0] == pytest.approx(squared, abs=1e-6)


def test_el2n_of_two_classes_is_root_two_times_one_minus_p():
    logits = np.array([[0.3, -1.2], [4.0, 1.0], [-9.0, 9.0]], np.float32)
    p = measures.confidence(logits, np.zeros(3, np.int64))
    np.testing.assert_allclose(measures.el2n(logits, np.zeros(3, np.int64)), math.sqrt(2) * (1 - p), atol=1e-6)


def test_el2n_keeps_its_digits_where_the_probability_is_nearly_one():
    assert measures.el2n(np.array([[20.0, 0.0]], np.float32), np.array([0]))[0] == pytest.approx(2.91486e-9, rel=1e-4)


@pytest.mark.parametrize(("logits", "label", "margin"), [([2, 1, 0], 0, 1.0), ([0, 3, 5], 1, -2.0)])
def test_the_margin_is_the_labels_logit_above_the_largest_other_with_a_batch_of_one(logits, label, margin):
    assert measures.margin(np.array([logits], np.float32), np.array([label])).tolist() == [margin]


@pytest.mark.parametrize("library", ONE_EACH)
@pytest.mark.parametrize(
    ("name", "label", "value"),
    [
        ("el2n", 0, 0.3803406),  # of [1, 0, −inf] as of [1, 0]
        ("cross_entropy", 0, 0.3132617),
        ("confidence", 1, 0.2689414),
        ("entropy", 0, 0.5822031),
        ("margin", 0, 1.0),
        ("incorrect", 1, 1.0),
    ],
)
def test_minus_infinity_is_a_legal_logit_where_the_answer_is_finite(library, name, label, value):
    logits = LIBRARIES[library](np.array([[1.0, 0.0, -np.inf]]))
    assert run(name, logits, LIBRARIES[library](np.array([label])))[0] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("library", ONE_EACH)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_nan_among_the_logits_is_a_nan_of_that_sample_alone(library, name, at):
    logits = np.zeros((3, 3))
    logits[1, at] = np.nan
    answer = run(name, LIBRARIES[library](logits), LIBRARIES[library](np.array([1, 1, 1])))
    assert np.isnan(answer).tolist() == [False, True, False]


@pytest.mark.parametrize("library", ONE_EACH)
@pytest.mark.parametrize(("name", "value"), [("el2n", math.sqrt(0.5)), ("cross_entropy", math.log(2))])
def test_a_nan_in_a_label_distribution_is_a_nan_of_that_sample_alone(library, name, value):
    distributions = LIBRARIES[library](np.array([[np.nan, 1.0], [1.0, 0.0]]))
    answer = run(name, LIBRARIES[library](np.zeros((2, 2))), distributions)
    np.testing.assert_allclose(answer, [np.nan, value], rtol=1e-6)


@pytest.mark.parametrize("library", ONE_EACH)
@pytest.mark.parametrize(
    ("name", "value"),
    # p = [¼, ½, ¼] against q = [½, ½, 0]
    [("el2n", math.sqrt(2) / 4), ("cross_entropy", 0.5 * math.log(4) + 0.5 * math.log(2))],
)
def test_labels_may_be_distributions_over_the_classes(library, name, value):
    logits, q = np.log([[0.25, 0.5, 0.25]]), np.array([[0.5, 0.5, 0.0]])
    assert run(name, LIBRARIES[library](logits), LIBRARIES[library](q))[0] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("name", ["el2n", "cross_entropy"])
@given(batch=batches(least=1))
def test_a_one_hot_distribution_means_what_the_label_means(name, batch):
    logits, labels = batch
    onehot = np.eye(logits.shape[1], dtype=np.float32)[labels]
    np.testing.assert_allclose(run(name, logits, onehot), run(name, logits, labels), rtol=2e-5, atol=2e-6)


def test_a_class_of_probability_zero_costs_nothing_where_its_label_is_zero():
    assert measures.cross_entropy(np.array([[0.0, -np.inf]]), np.array([[1.0, 0.0]])).tolist() == [0.0]


@pytest.mark.parametrize("library", sorted(LIBRARIES))
@pytest.mark.parametrize("name", NAMES)
def test_an_empty_batch_has_an_empty_answer(library, name):
    logits, labels = LIBRARIES[library](np.zeros((0, 3))), LIBRARIES[library](np.zeros(0, np.int64))
    assert run(name, logits, labels).shape == (0,)


@pytest.mark.parametrize("library", ONE_EACH)
def test_token_mean_averages_the_tokens_that_count_and_nothing_else(library):
    loss = LIBRARIES[library](np.array([[1.0, 3.0, np.nan], [2.0, 4.0, 6.0], [5.0, 5.0, 5.0]]))
    mask = LIBRARIES[library](np.array([[1, 1, 0], [1, 0, 1], [0, 0, 0]]))
    np.testing.assert_array_equal(to_host(measures.token_mean(loss, mask)), np.array([2.0, 4.0, np.nan], np.float32))


def test_measures_run_under_jax_jit():
    jax = pytest.importorskip("jax")
    logits, labels = np.array([[1.0, 2.0, 3.0]], np.float32), np.array([0])
    assert float(jax.jit(measures.el2n)(logits, labels)[0]) == pytest.approx(1.153465, abs=1e-6)


def test_the_loss_score_takes_a_loss_before_logits():
    loss = Loss().measure(loss=np.array([7.0]), logits=np.zeros((1, 2)), labels=np.array([0]))
    assert loss.tolist() == [7.0]
