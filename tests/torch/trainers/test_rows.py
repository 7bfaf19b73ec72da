"""Rows beside a Trainer's samples: any collator, any format of a Hugging Face dataset, and what a Trainer made of it."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset, DatasetDict
from transformers import DataCollatorForLanguageModeling, DataCollatorWithFlattening, default_data_collator

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import KeepAll
from adaptive_sampler.torch import IndexedDataset
from adaptive_sampler.torch.data.samplers import AdaptiveSampler
from adaptive_sampler.torch.tokens.hook import TokenLossHook
from adaptive_sampler.torch.transformers import AdaptiveTrainerMixin
from adaptive_sampler.torch.transformers.rows import RowsBeside, prepared, with_rows
from tests.torch.trainers.small import N, alone, causal, documents, new_store, quiet, tokenizer, trained

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers, on its own deprecations


def table(**columns: Any) -> Dataset:
    return Dataset.from_dict({"x": list(range(N)), **columns})


def kept(dataset: Any) -> list[dict[str, Any]]:
    return [dataset[i] for i in range(len(dataset))]


# -- the collator -------------------------------------------------------------------------------------------------------


def pairs(samples: Any) -> Any:
    """A collator of twice as many samples, as those of pairs are."""
    assert all("row" not in sample for sample in samples)
    return {"x": torch.tensor([sample["x"] for sample in samples for _ in range(2)])}


@pytest.mark.parametrize("collator", [default_data_collator, pairs])
def test_rows_lie_beside_the_batch_in_the_order_of_the_samples(collator: Any) -> None:
    batch = RowsBeside(collator, "row")([{"x": 1, "row": 7}, {"x": 2, "row": 3}])
    assert batch["row"].tolist() == [7, 3]
    assert batch["row"].dtype is torch.int64


def test_a_collator_with_rows_keeps_its_attributes_and_pickles_for_workers() -> None:
    collator = DataCollatorForLanguageModeling(tokenizer(), mlm=False)
    again = pickle.loads(pickle.dumps(RowsBeside(collator, "row")))
    assert again.mlm is False
    assert again([{"input_ids": [3, 4], "row": 5}])["row"].tolist() == [5]


def test_a_sample_without_a_row_and_a_batch_that_is_no_dict_are_told() -> None:
    with pytest.raises(InvalidValue, match=r"carries no 'row': it is one with x. Train on IndexedDataset"):
        RowsBeside(default_data_collator, "row")([{"x": 1}])
    with pytest.raises(InvalidValue, match="the collator's batch is a list"):
        RowsBeside(list, "row")([{"x": 1, "row": 0}])


def test_rows_come_from_worker_processes_too(place: Path) -> None:
    store = new_store(place)
    trained(
        causal(),
        TokenLossHook(store),
        Dataset.from_list(documents()),
        DataCollatorWithFlattening(),
        place.parent,
        dataloader_num_workers=1,
    )
    np.testing.assert_allclose(store["loss"], [alone(causal(), row) for row in range(N)], rtol=1e-5)


# -- the dataset --------------------------------------------------------------------------------------------------------


def doubled(batch: dict[str, Any]) -> dict[str, Any]:
    """A transform that gives another column than it gets."""
    return {"y": [2 * x for x in batch["x"]]}


FORMATS = {
    "none": (lambda data: data, "x"),
    "torch, some columns": (lambda data: data.with_format("torch", columns=["x"]), "x"),
    "numpy": (lambda data: data.with_format("numpy"), "x"),
    "transform": (lambda data: data.with_transform(doubled), "y"),
}


@pytest.mark.parametrize("form", FORMATS)
def test_a_table_gets_a_column_of_rows_and_keeps_its_format(form: str, place: Path) -> None:
    change, name = FORMATS[form]
    data = change(table(other=["a"] * N))
    rowed, key = with_rows(data, new_store(place), recorded=True)
    assert key == "row"
    for row, (sample, before) in enumerate(zip(kept(rowed), kept(data), strict=True)):
        assert int(sample.pop("row")) == row
        assert set(sample) == set(before)
        assert type(sample[name]) is type(before[name])
        assert sample[name] == before[name]


def test_a_column_of_rows_is_taken_as_it_is_and_another_one_of_that_name_is_left_alone(place: Path) -> None:
    store = new_store(place)
    own, key = with_rows(table(row=list(range(N))), store, recorded=True)
    assert (key, own.column_names) == ("row", ["x", "row"])
    other, key = with_rows(table(row=["text"] * N), store, recorded=True)
    assert (key, other.column_names) == ("adaptive_sampler_row", ["x", "row", "adaptive_sampler_row"])
    with pytest.raises(InvalidValue, match=r"'row' and 'adaptive_sampler_row' are no rows: rename one of them"):
        with_rows(table(row=["text"] * N, adaptive_sampler_row=["text"] * N), store, recorded=True)


@pytest.mark.parametrize("rows", [range(100, 100 + N), range(1, N + 1), [i // 2 for i in range(N)]])
def test_a_column_of_integers_that_are_no_rows_is_told_and_both_remedies_mend_it(rows: Any, place: Path) -> None:
    store, data = new_store(place), table(row=list(rows))
    with pytest.raises(InvalidValue, match=r"rows 0 to 11.*rename_column\('row', 'number'\).*remove_columns"):
        with_rows(data, store, recorded=True)
    for mended in (data.rename_column("row", "number"), data.remove_columns("row")):
        assert with_rows(mended, store, recorded=True)[1] == "row"


def test_any_other_dataset_is_wrapped_if_something_is_recorded(place: Path) -> None:
    store, data = new_store(place), documents()
    wrapped, key = with_rows(data, store, recorded=True)
    assert isinstance(wrapped, IndexedDataset)
    assert (key, wrapped[3]["row"]) == ("row", 3)
    assert with_rows(data, store, recorded=False) == (data, None)
    assert with_rows(None, store, recorded=True) == (None, None)


def test_a_stream_and_several_datasets_are_refused(place: Path) -> None:
    store = new_store(place)
    with pytest.raises(
        InvalidValue, match=r"IterableDataset is a stream.*datasets.Dataset.from_list\(list\(stream\)\)"
    ):
        with_rows(table().to_iterable_dataset(), store, recorded=True)
    assert with_rows(Dataset.from_list(list(table().to_iterable_dataset())), store, recorded=True)[1] == "row"
    with pytest.raises(InvalidValue, match=r"2 datasets \(a, b\).*datasets.concatenate_datasets"):
        with_rows(DatasetDict({"a": table(), "b": table()}), store, recorded=True)
    with pytest.raises(InvalidValue, match=r"1 datasets \(train\).*pass train_dataset\['train'\]"):
        with_rows(DatasetDict({"train": table()}), store, recorded=True)


# -- what a Trainer made of it ------------------------------------------------------------------------------------------


def test_a_shuffle_is_undone(place: Path) -> None:
    data, _ = with_rows(table(), new_store(place), recorded=True)
    again = prepared(data.shuffle(seed=3), new_store(place.with_name("other")), "row")
    assert again["x"][:] == list(range(N))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.filter(lambda sample: sample["x"] != 4), r"has 11 samples.*1 of these are dropped.*\(4\)"),
        (lambda data: data.select([0, 0, *range(1, N)]), r"has 13 samples.*1 of these are in several pieces.*\(0\)"),
        (lambda data: data.select([0, 0, *range(2, N)]), r"has 12 samples.*in several pieces.*\(0\)"),
        (lambda data: data.remove_columns("row"), r"left the column 'row' out of the train dataset \(x\)"),
    ],
)
def test_what_was_dropped_split_or_lost_is_told(change: Any, words: str, place: Path) -> None:
    store = new_store(place)
    data, _ = with_rows(table(), store, recorded=True)
    with pytest.raises(InvalidValue, match=words):
        prepared(change(data), store, "row")


class Dropping(transformers.Trainer):
    """A Trainer that leaves short documents out when it is made."""

    def __init__(self, model: Any, args: Any, data_collator: Any, train_dataset: Any) -> None:
        data = train_dataset.filter(lambda sample: len(sample["input_ids"]) > 2)
        super().__init__(model, args, data_collator, data)


class Adaptive(AdaptiveTrainerMixin, Dropping):  # type: ignore[misc]
    """With ours in front."""


def test_a_trainer_that_drops_samples_is_refused_and_the_remedy_goes(place: Path) -> None:
    data, collator = Dataset.from_list(documents()), DataCollatorWithFlattening()
    arguments = causal(), quiet(place.parent), collator  # by position
    store = new_store(place)
    with pytest.raises(InvalidValue, match=r"2 of these are dropped in its column 'row' \(0, 6\).*filter the dataset"):
        Adaptive(*arguments, data, sampler=AdaptiveSampler(store, KeepAll()), hook=TokenLossHook(store))
    left = data.filter(lambda sample: len(sample["input_ids"]) > 2)
    store = ScoreStore.create(place.with_name("left"), len(left), [Loss()])
    trainer = Adaptive(*arguments, left, sampler=AdaptiveSampler(store, KeepAll()), hook=TokenLossHook(store))
    trainer.train()
    assert store.observed("loss") == N - 2
