"""All measures of a language model's tokens in one pass: exact over long rows, and no memory of the logits' size."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from adaptive_sampler import ScoreStore
from adaptive_sampler.arrays import to_host
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import measure as kernels
from adaptive_sampler.scoring import EL2N, Confidence, Entropy, Error, Loss, Margin, measures
from adaptive_sampler.scoring import one_pass as module
from adaptive_sampler.scoring.one_pass import leave_out, tokens
from adaptive_sampler.scoring.sharing import shared
from tests import references
from tests.libraries import LIBRARIES

LINES = {
    "cross_entropy": kernels.LOSS,
    "el2n": kernels.EL2N,
    "margin": kernels.MARGIN,
    "confidence": kernels.CONFIDENCE,
    "incorrect": kernels.INCORRECT,
    "entropy": kernels.ENTROPY,
}
EDGES = [
    2,
    63,
    64,
    65,
    127,
    129,
    255,
    257,
    1023,
    1025,
    2047,
    2048,
    2049,
    2561,
    4095,
    4097,
    8193,
]  # of the lanes, and of parts


def agree(logits, labels, rtol=1e-6, atol=1e-7):
    """Check every line against its twin, token by token."""
    found = tokens(logits, labels)
    for name, line in LINES.items():
        twin = [references.MEASURES[name](list(map(float, z)), int(y)) for z, y in zip(logits, labels, strict=True)]
        np.testing.assert_allclose(found[line], twin, rtol=rtol, atol=atol, err_msg=name)


@st.composite
def wide(draw):
    """(tokens, classes) logits of any size, a few of them far above the others, equal to others or impossible; labels."""
    count, classes = draw(st.integers(1, 3)), draw(st.integers(2, 400))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    logits = rng.normal(0, draw(st.sampled_from([0, 0.1, 3, 80, 1e4])), (count, classes))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, count - 1)), draw(st.integers(0, classes - 1))
        logits[at] = draw(st.sampled_from([1e4, -1e4, 60.0, 8.0, -np.inf]))
    labels = np.array([draw(st.integers(0, classes - 1)) for _ in range(count)])
    return logits.astype(draw(st.sampled_from([np.float32, np.float64]))), labels


@given(wide())
def test_each_line_equals_its_float64_twin(batch):
    agree(*batch)


@pytest.mark.parametrize("classes", EDGES)
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_rows_of_any_length_are_summed_whole_with_the_label_anywhere(classes, where):
    logits = np.random.default_rng(classes).normal(0, 2, (2, classes)).astype(np.float32)
    agree(logits, np.full(2, {"first": 0, "middle": classes // 2, "last": classes - 1}[where]))


@given(
    logits=arrays(np.float32, (4, 5), elements=st.sampled_from([0.0, 1.5, -40, 3e38, -3e38, np.inf, -np.inf, np.nan])),
    labels=arrays(np.int64, 4, elements=st.integers(0, 4)),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_of_any_logits_it_says_what_the_librarys_operations_say(logits, labels, dtype):
    torch = pytest.importorskip("torch")
    found = tokens(logits.astype(dtype), labels)
    followed = torch.tensor(logits.astype(dtype), requires_grad=True)
    for name, line in LINES.items():
        arguments = [followed] if name == "entropy" else [followed, torch.tensor(labels)]
        expected = to_host(getattr(measures, name)(*arguments))
        np.testing.assert_allclose(found[line], expected, rtol=2e-6, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("classes", [3, 500])
@pytest.mark.parametrize(
    ("logits", "label", "norm"),
    [
        ([0, 0, -np.inf], 0, 0.707107),
        ([2, 0, -np.inf], 0, 0.168578),
        ([2, 0, -np.inf], 1, 1.245635),
        ([0, 0, 0], 0, 0.816497),
        ([1, 2, 3], 2, 0.424336),
        ([1, 2, 3], 0, 1.153465),
    ],
)
def test_el2n_is_that_of_the_paper_among_any_number_of_impossible_words(classes, logits, label, norm):
    row = np.full((1, classes), -np.inf, np.float32)
    row[0, :3] = logits
    assert tokens(row, np.array([label]))[kernels.EL2N, 0] == pytest.approx(norm, abs=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ahead", [20.0, 60.0, 86.0])
def test_no_digit_is_lost_where_the_probability_is_nearly_one(dtype, ahead):
    logits = np.zeros((1, 301), dtype)
    logits[0, 7] = ahead
    found, rest = tokens(logits, np.array([7]))[:, 0], np.exp(-ahead)
    assert found[kernels.LOSS] == pytest.approx(300 * rest, rel=1e-6)
    assert found[kernels.EL2N] == pytest.approx(np.sqrt(300 * 301) * rest, rel=1e-6)
    assert found[kernels.ENTROPY] == pytest.approx(300 * rest * (1 + ahead), rel=1e-6)


def test_of_equal_largest_logits_the_first_is_the_prediction():
    logits = np.zeros((3, 200), np.float32)
    logits[:, [50, 150]] = 2
    assert tokens(logits, np.array([50, 150, 0]))[kernels.INCORRECT].tolist() == [0, 1, 1]


@pytest.mark.parametrize("label", [-1, -100])
def test_a_token_that_does_not_count_has_no_values_and_changes_no_others(label):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(4, 300)).astype(np.float32), rng.integers(0, 300, 4)
    some = tokens(logits, np.where([True, False, True, False], labels, label))
    np.testing.assert_array_equal(some[:, [0, 2]], tokens(logits, labels)[:, [0, 2]])
    assert np.isnan(some[:, [1, 3]]).all()


@pytest.mark.parametrize(
    "library", ["numpy float16", "torch float32", "torch float16", "torch bfloat16", "torch requires_grad"]
)
@pytest.mark.parametrize("layout", ["whole", "every second row", "half of each row"])
def test_logits_of_any_precision_and_layout_are_measured_as_their_float32_copy(library, layout, monkeypatch):
    monkeypatch.setattr(module, "CONVERTED", 3 * 4 * 300)  # three rows at a time, so that seven are no multiple
    given = LIBRARIES[library](np.random.default_rng(0).normal(0, 3, (14, 600)))
    logits = {"whole": given, "every second row": given[::2], "half of each row": given[:, 100:400]}[layout]
    labels = np.arange(len(logits)) * 20
    labels[2] = -100
    exact = np.ascontiguousarray(to_host(logits), np.float32)
    np.testing.assert_array_equal(tokens(logits, labels), tokens(exact, labels))


@pytest.mark.parametrize("library", ["numpy float32", "torch float32", "torch bfloat16"])
def test_no_memory_of_the_logits_size_is_taken(library):
    logits, labels = LIBRARIES[library](np.zeros((400, 5000))), np.zeros(400, np.int64)
    tokens(logits[:1], labels[:1])  # compiled, and imported
    tracemalloc.start()
    tokens(logits, labels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 400_000  # of 8 MB


def test_no_token_is_none():
    assert tokens(np.zeros((0, 300), np.float32), np.zeros(0, np.int64)).shape == (len(LINES), 0)


@pytest.mark.parametrize("library", ["numpy float32", "torch bfloat16"])
def test_a_label_above_the_classes_is_refused_with_its_position(library, monkeypatch):
    monkeypatch.setattr(module, "CONVERTED", 1)
    with pytest.raises(InvalidValue, match=r"label 200 at position 2 is outside 0 … 199.*below 0, such as -100"):
        tokens(LIBRARIES[library](np.zeros((4, 200))), np.array([0, -100, 200, 300]))


@pytest.mark.parametrize(
    ("logits", "labels"), [((2, 3, 4), (2, 3)), ((6, 4), (5,)), ((6, 1), (6,)), ((6,), (6,)), ((6, 4), (6, 1))]
)
def test_what_is_not_tokens_by_classes_is_refused_with_the_remedy(logits, labels):
    with pytest.raises(InvalidValue, match=r"\(tokens, classes\), of two classes or more.*Flatten the batch"):
        tokens(np.zeros(logits, np.float32), np.zeros(labels, np.int64))


def test_logits_that_do_not_lie_on_the_host_are_left_to_their_library():
    assert tokens(LIBRARIES["jax float32"](np.zeros((2, 3))), np.zeros(2, np.int64)) is None


@pytest.mark.parametrize(
    "library", ["numpy float32", "numpy float16", "torch float32", "torch float64", "torch bfloat16"]
)
def test_measures_of_a_store_leave_out_the_tokens_that_do_not_count(library):
    rng = np.random.default_rng(0)
    logits, labels = LIBRARIES[library](rng.normal(size=(4, 30))), LIBRARIES[library](np.array([3, -100, 0, -1]))
    scores = [EL2N(squared=True), Loss(), Entropy(), Error(), Margin(), Confidence()]
    session = ScoreStore.create(None, 4, scores).session
    with shared():
        leave_out(logits, labels)
        found = session.measure(logits=logits, labels=labels)
    expected = session.measure(logits=logits[::2], labels=labels[::2])
    for name, values in expected.items():
        assert np.isnan(found[name][1::2]).all()
        np.testing.assert_allclose(found[name][::2], values, rtol=1e-6, atol=1e-7)


def test_the_entropy_of_what_was_measured_with_labels_is_not_computed_again(monkeypatch):
    calls, measure = [], kernels.measure
    monkeypatch.setattr(kernels, "measure", lambda *given: calls.append(given) or measure(*given))
    logits, labels = np.ones((2, 300), np.float32), np.zeros(2, np.int64)
    with shared():
        measures.cross_entropy(logits, labels)
        np.testing.assert_allclose(measures.entropy(logits), np.log(300), rtol=1e-6)
    assert len(calls) == 1
