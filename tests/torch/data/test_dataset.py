"""`IndexedDataset`: samples carry their row, and what would mix rows up is refused."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, StackDataset, Subset

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import Loss
from adaptive_sampler.torch import IndexedDataset
from tests.torch.samples import N, dataset, make_store


class Dicts(Dataset):
    """Dict samples; `fetched` tells how they were asked for."""

    def __init__(self, n=N):
        self.n, self.fetched = n, []

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return {"x": torch.tensor(float(index)), "labels": int(index) % 3}


class Batched(Dicts):
    def __getitems__(self, indices):
        self.fetched.append(list(indices))
        return [self[i] for i in indices]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(3))


def test_a_sample_comes_with_its_row():
    row, (inputs, label) = IndexedDataset(dataset())[5]
    assert (row, inputs[0], label) == (5, 5.0, 2)


def test_with_a_key_the_row_is_an_entry_of_a_copy_of_the_dict():
    samples = [{"x": 1}, {"x": 2}]
    assert IndexedDataset(samples, key="row")[1] == {"x": 2, "row": 1}
    assert samples[1] == {"x": 2}


def test_its_length_is_the_datasets():
    assert len(IndexedDataset(dataset(7))) == 7


@pytest.mark.parametrize("kind", [Dicts, Batched])
def test_a_batch_at_once_is_its_samples(kind):
    indexed = IndexedDataset(kind(), key="row")
    assert indexed.__getitems__([3, 1]) == [indexed[3], indexed[1]]


def test_a_dataset_that_fetches_whole_batches_still_does():
    inner = Batched()
    list(DataLoader(IndexedDataset(inner, key="row"), batch_size=12))
    assert inner.fetched == [list(range(12)), list(range(12, 24))]


def test_rows_are_collated_to_int64():
    rows, _ = next(iter(DataLoader(IndexedDataset(dataset()), batch_size=3)))
    assert (rows.dtype, rows.tolist()) == (torch.int64, [0, 1, 2])


@pytest.mark.parametrize("index", [-1, -N])
def test_an_index_from_the_end_is_the_row_from_the_front(index):
    row, (inputs, _) = IndexedDataset(dataset())[index]
    assert row == N + index == inputs[0]


def test_plain_sequences_are_datasets_too():
    assert IndexedDataset(["a", "b"])[1] == (1, "b")


@pytest.mark.parametrize("n", [N - 1, N + 1])
def test_a_store_of_another_length_is_refused_with_the_remedy(n):
    with pytest.raises(InvalidValue, match=rf"the dataset has {N} samples, the store {n} rows.*n=len\(dataset\)"):
        IndexedDataset(dataset(), make_store(n=n))


def test_a_store_of_its_length_is_taken():
    assert len(IndexedDataset(dataset(), make_store())) == N


@pytest.mark.parametrize(
    ("ours", "theirs", "refused"), [("a", "b", True), ("a", "a", False), (None, "b", False), ("a", None, False)]
)
def test_a_store_made_for_a_dataset_of_another_fingerprint_is_refused(ours, theirs, refused):
    fingerprinted = Dicts()
    fingerprinted._fingerprint = theirs
    store = ScoreStore.create(None, N, [Loss()], fingerprint=ours)
    if refused:
        with pytest.raises(InvalidValue, match="fingerprint is 'b', the store was made for 'a'"):
            IndexedDataset(fingerprinted, store)
    else:
        assert len(IndexedDataset(fingerprinted, store)) == N


@pytest.mark.parametrize("stream", [Stream(), iter([1, 2]), (x for x in range(3))])
def test_a_stream_is_refused_with_the_remedy(stream):
    with pytest.raises(InvalidValue, match=r"is a stream: its samples have no index. Use .*PlannedShards.*hook.record"):
        IndexedDataset(stream)


WRAPPERS = {
    "itself": lambda inner: inner,
    "Subset": lambda inner: Subset(inner, range(5)),
    "Subset of Subset": lambda inner: Subset(Subset(inner, range(9)), range(5)),
    "ConcatDataset": lambda inner: ConcatDataset([dataset(), inner]),
    "StackDataset": lambda inner: StackDataset(dataset(), inner),
    "StackDataset by name": lambda inner: StackDataset(a=dataset(), b=inner),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_an_indexed_dataset_inside_another_is_refused_with_the_remedy(wrapper):
    with pytest.raises(
        InvalidValue, match=r"must be the outermost.*Wrap last: IndexedDataset\(Subset\(dataset, ...\)\)"
    ):
        IndexedDataset(WRAPPERS[wrapper](IndexedDataset(dataset())))


@pytest.mark.parametrize("wrapper", sorted(WRAPPERS))
def test_any_other_dataset_may_be_wrapped(wrapper):
    assert IndexedDataset(WRAPPERS[wrapper](dataset()))[3][0] == 3


def test_a_key_needs_dict_samples():
    with pytest.raises(InvalidValue, match=r"key='row' needs dict samples, this one is a tuple. Leave key out"):
        IndexedDataset(dataset(), key="row")[0]


def test_a_key_that_the_samples_have_already_is_refused():
    with pytest.raises(
        InvalidValue, match=r"key='labels': the sample has an entry of that name already. Choose another"
    ):
        IndexedDataset(Dicts(), key="labels")[0]


def test_it_is_pickled_for_workers_without_the_store():
    again = pickle.loads(pickle.dumps(IndexedDataset(dataset(), make_store())))
    assert again[4][0] == 4
    assert not any(isinstance(value, ScoreStore) for value in vars(again).values())


def test_numpy_rows_reach_a_dataset_that_takes_whole_batches():
    rows = [row for row, _ in IndexedDataset(dataset()).__getitems__(np.array([4, 2]))]
    assert rows == [4, 2]
    assert {type(row) for row in rows} == {int}


# -- its attributes are the dataset's ----------------------------------------------------------------------------------


class Images(Dataset):
    """As torchvision's datasets: classes and a transform that later code sets, and a label for each sample."""

    classes = ("cat", "dog")

    def __init__(self, n=6):
        self.targets, self.transform = [i % 2 for i in range(n)], None

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return (self.transform or float)(index), self.targets[index]

    def labels(self):
        return self.targets


class PassingOn:
    """A wrapper that passes reads on, as many do, and keeps what is set on it."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return self.dataset[index]


def half(images):
    return Subset(images, [1, 3, 5])


def test_reads_pass_through_to_the_dataset():
    indexed = IndexedDataset(Images())
    assert (indexed.classes, indexed.targets, indexed.labels()) == (("cat", "dog"), [0, 1] * 3, [0, 1] * 3)
    with pytest.raises(AttributeError, match="'Images' object has no attribute 'nothing'"):
        _ = indexed.nothing


@pytest.mark.parametrize("wrap", [lambda x: x, PassingOn, half, lambda x: half(PassingOn(x))])
def test_an_attribute_that_a_dataset_has_is_set_on_it_however_deep_it_lies(wrap):
    images = Images()
    indexed = IndexedDataset(wrap(images))
    indexed.transform = str  # as timm's create_loader does
    assert (images.transform, indexed.transform) == (str, str)
    assert indexed[0][1][0] in ("0", "1")


def test_what_belongs_to_each_row_is_not_read_from_inside_a_subset():
    indexed = IndexedDataset(half(Images()))
    assert (indexed.indices, indexed.classes) == ([1, 3, 5], ("cat", "dog"))
    for name in ("targets", "labels"):
        with pytest.raises(AttributeError, match=f"'Subset' object has no attribute '{name}'"):
            getattr(indexed, name)


def test_what_a_wrapper_passes_on_is_read_through_it():
    indexed = IndexedDataset(PassingOn(Images()))
    assert (indexed.targets, indexed.labels()) == ([0, 1] * 3, [0, 1] * 3)


def test_an_attribute_that_no_dataset_has_is_the_wrappers_own():
    images = Images()
    indexed = IndexedDataset(images)
    indexed.note = "train"
    assert (indexed.note, hasattr(images, "note")) == ("train", False)


def test_the_wrappers_own_attributes_stay_its_own():
    images = Images()
    images.key = images.dataset = "the dataset's"
    indexed = IndexedDataset(images, key="row")
    assert (indexed.key, indexed.dataset) == ("row", images)
    indexed.key = "index"
    assert (indexed.key, images.key) == ("index", "the dataset's")


def test_datasets_that_hold_one_another_end_no_search():
    one, other = PassingOn(Images()), Subset(Images(), [0])
    indexed = IndexedDataset(other)
    one.dataset, other.dataset = other, one
    indexed.note = 1
    assert vars(indexed)["note"] == 1


@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, *(lambda x, p=p: pickle.loads(pickle.dumps(x, p)) for p in range(2, 6))],
)
@pytest.mark.parametrize("wrap", [lambda x: x, half])
def test_a_copy_or_a_pickle_passes_through_as_well(again, wrap):
    indexed = again(IndexedDataset(wrap(Images())))
    assert (indexed.classes, indexed[1][0]) == (("cat", "dog"), 1)
    indexed.transform = str
    assert indexed[0][1][0] in ("0", "1")


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_see_what_was_set(context):
    indexed = IndexedDataset(Images())
    indexed.transform = str
    batches = DataLoader(indexed, 3, num_workers=1, multiprocessing_context=context)
    assert [texts for _, (texts, _) in batches] == [("0", "1", "2"), ("3", "4", "5")]


def test_whole_batches_are_asked_for_only_where_the_dataset_takes_them():
    inner = Batched()
    IndexedDataset(inner, key="row").__getitems__([1, 2])
    assert (inner.fetched, IndexedDataset(Images()).__getitems__([1, 2])) == ([[1, 2]], [(1, (1.0, 1)), (2, (2.0, 0))])
