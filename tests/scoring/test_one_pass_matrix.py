"""All scores of an observation in one matrix are what each measure says by itself."""

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue, NotFinite
from adaptive_sampler.kernels import fold, measure
from adaptive_sampler.scoring import (
    EL2N,
    Confidence,
    Entropy,
    Error,
    Forgetting,
    GraNd,
    Last,
    Loss,
    Margin,
    Score,
    Variability,
)
from adaptive_sampler.scoring.reading import Reader
from tests.kernels.processes import started

SCORES = [Entropy(), EL2N(), Forgetting(), Loss(), Margin(), Confidence(), Variability(), Error()]
CLASSES = [2, 10, 127, 255, 256, 1000, 4096, 4097, 9000]


def outputs(classes, batch=70):
    rng = np.random.default_rng(classes)
    logits = rng.normal(0, 3, (batch, classes)).astype(np.float32)
    logits[::2, 0] = -np.inf
    return logits, rng.integers(1, classes, batch)


@pytest.mark.parametrize("classes", CLASSES)
def test_its_lines_are_the_scores_in_their_order_each_as_measured_alone(classes):
    logits, labels = outputs(classes)
    matrix = Reader(SCORES).matrix(logits, labels)
    for score, line in zip(SCORES, matrix, strict=True):
        alone = score.measure(logits) if score.name == "entropy" else score.measure(logits=logits, labels=labels)
        np.testing.assert_allclose(line, alone, rtol=1e-6, atol=1e-6, err_msg=score.name)


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_row_with_a_nan_or_an_infinite_logit_spoils_itself_alone(classes, wrong):
    logits, labels = outputs(classes)
    clean = Reader(SCORES).matrix(logits, labels)
    logits[33, labels[33] - 1] = wrong
    found = Reader(SCORES).matrix(logits, labels)
    losses = [score.name for score in SCORES].index("loss")
    assert np.isnan(found[losses, 33])
    np.testing.assert_array_equal(np.delete(found, 33, 1), np.delete(clean, 33, 1))


@pytest.mark.parametrize("bits", [0x7FC00000, 0xFFC00000, 0x7F800001, 0x7FFFFFFF])
@pytest.mark.parametrize("classes", [10, 300])
def test_every_kind_of_nan_is_one(classes, bits):
    logits, labels = outputs(classes)
    logits.view(np.uint32)[5, [0, labels[5]]] = bits
    assert np.isnan(Reader(SCORES).matrix(logits, labels)[:, 5]).all()


@pytest.mark.parametrize(
    "score",
    [EL2N(squared=True), GraNd(), Score("own", lambda logits: logits.max(axis=1), Last())],
    ids=lambda s: s.name,
)
def test_there_is_none_where_one_score_is_another_measure(score):
    assert Reader([Loss(), score]).matrix(*outputs(10)) is None


def test_there_is_none_for_labels_that_are_distributions():
    assert Reader([Loss()]).matrix(np.zeros((2, 3)), np.full((2, 3), 1 / 3)) is None


@pytest.mark.parametrize(("labels", "rows"), [([0, 3, 0], 3), ([0, -1, 0], 3), ([0, 1, 0], 2), ([0, 1], 3)])
def test_an_update_that_does_not_fit_is_refused_and_changes_nothing(labels, rows):
    with ScoreStore.create(None, 9, SCORES) as store:
        with pytest.raises(InvalidValue):
            store.update(np.arange(rows), logits=np.zeros((3, 3), np.float32), labels=np.array(labels))
        assert store.observed("loss") == 0


def test_an_update_with_a_nan_names_its_row_and_changes_nothing():
    logits, labels = outputs(10)
    logits[4, 2] = np.nan
    with ScoreStore.create(None, 99, SCORES) as store:
        with pytest.raises(NotFinite, match="of row 4 is nan"):
            store.update(np.arange(70), logits=logits, labels=labels)
        assert store.observed("loss") == 0


def read_only(array):
    copy = array.copy()
    copy.setflags(write=False)
    return copy


def unaligned(array):
    return np.frombuffer(bytearray(b" " + array.tobytes()), np.uint8)[1:].view(array.dtype).reshape(array.shape)


@pytest.mark.parametrize(
    "way", [read_only, unaligned, np.asfortranarray, lambda array: np.repeat(array, 2, axis=0)[::2]]
)
@pytest.mark.parametrize("classes", [10, 300])
def test_arrays_that_lie_in_memory_in_another_way_give_the_same_and_compile_nothing(way, classes):
    (logits, labels), rows = outputs(classes), np.arange(70)
    with ScoreStore.create(None, 70, SCORES) as expected, ScoreStore.create(None, 70, SCORES) as store:
        expected.update(rows, logits=logits, labels=labels)
        before = [len(kernel._made().nopython_signatures) for kernel in (fold.fold, measure.measure)]
        store.update(way(rows), logits=way(logits), labels=way(labels))
        assert [len(kernel._made().nopython_signatures) for kernel in (fold.fold, measure.measure)] == before
        for score in SCORES:
            np.testing.assert_array_equal(store[score.name], expected[score.name])


def test_where_nothing_is_compiled_numpy_measures():
    code = (
        "import numpy as np\nfrom adaptive_sampler import ScoreStore\nfrom adaptive_sampler.scoring import EL2N, Entropy, Loss\n"
        "store = ScoreStore.create(None, 2, [EL2N(), Entropy(), Loss()])\n"
        "store.update([0, 1], logits=np.zeros((2, 2), np.float32), labels=[0, 1])\n"
        "assert np.allclose([store['el2n'], store['entropy'], store['loss']], [[0.5 ** 0.5] * 2, *[[np.log(2)] * 2] * 2])"
    )
    assert started(code, NUMBA_DISABLE_JIT="1").communicate(timeout=300) == ("", "")
