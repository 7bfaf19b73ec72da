"""Rows beside a Trainer's samples: as a column of its dataset, through its preparation of it, and past any collator."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers.utils import is_datasets_available

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.torch.data.dataset import IndexedDataset

if is_datasets_available():
    import datasets

NAMES = "row", "adaptive_sampler_row"  # of the row column: the second where a dataset has another `row`


class RowedSample(NamedTuple):
    """A sample that is no dict, such as a tuple or a dataclass, and its row."""

    row: int
    sample: Any


class RowedDataset(IndexedDataset):
    """An `IndexedDataset` with a key, for samples of any kind: dicts have their row in them, others in a `RowedSample`."""

    def _with_row(self, index: int, sample: Any) -> Any:
        return super()._with_row(index, sample) if isinstance(sample, Mapping) else RowedSample(index, sample)


class RowsBeside:
    """A data collator around another one: it takes the rows off the samples, and puts them beside the batch.

    So the rows arrive whatever the collator makes of its samples. Samples are mappings with an entry `key`, or each a
    `RowedSample`; the batch is a mapping, and gets such an entry, (batch,) int64 in the order of the samples. Any other
    attribute is the collator's. Raises `InvalidValue` for samples without a row, and for a batch that is no mapping.
    """

    def __init__(self, collator: Any, key: str) -> None:
        self.key, self.collator = key, collator

    def __call__(self, samples: Sequence[Any]) -> Any:
        key = self.key
        without = next(
            (s for s in samples if not (isinstance(s, RowedSample) or (isinstance(s, Mapping) and key in s))), None
        )
        if without is not None:
            what = (
                f"one with {', '.join(map(str, without))}" if isinstance(without, Mapping) else type(without).__name__
            )
            raise InvalidValue(
                f"a sample for training carries no {key!r}: it is {what}. Train on IndexedDataset(dataset, key={key!r}), whose "
                "samples are dicts, or have the dataset's transform keep that column."
            )
        apart = [self._apart(sample) for sample in samples]
        batch = self.collator([sample for _, sample in apart])
        if not isinstance(batch, Mapping):
            raise InvalidValue(
                f"the collator's batch is a {type(batch).__name__}: rows go beside the entries of a dict. Have it return one, as "
                "the Trainer passes the batch on by name."
            )
        batch[key] = torch.tensor([row for row, _ in apart])  # type: ignore[index]
        return batch

    def _apart(self, sample: Any) -> tuple[int, Any]:
        """(The row, the sample without it)."""
        if isinstance(sample, RowedSample):
            return sample
        return int(sample[self.key]), {name: x for name, x in sample.items() if name != self.key}

    def __getattr__(self, name: str) -> Any:
        if "collator" not in vars(self):  # before unpickling is over
            raise AttributeError(name)
        return getattr(self.collator, name)


class RowsKept:
    """The transform of a Hugging Face dataset around another one: it keeps the row column, which the other never sees."""

    def __init__(self, transform: Any, key: str) -> None:
        self.transform, self.key = transform, key

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        rows = {self.key: batch[self.key]}
        return {**self.transform({name: x for name, x in batch.items() if name != self.key}), **rows}


def with_rows(dataset: Any, store: ScoreStore, *, recorded: bool) -> tuple[Any, str | None]:
    """(the dataset with rows, the name under which its samples carry them; None if they carry none).

    A Hugging Face `Dataset` gets a column of rows unless it has one. Any other dataset is wrapped in a `RowedDataset`
    if scores are `recorded`. Raises `InvalidValue` for a stream, for several datasets, and for a dataset that does not
    fit the store.
    """
    if dataset is None:
        return None, None
    if isinstance(dataset, Mapping):
        split = "pass train_dataset['train'], or " if "train" in dataset else ""
        raise InvalidValue(
            f"train_dataset has {len(dataset)} datasets ({', '.join(map(str, dataset))}), and the store's rows are those of one: "
            f"{split}make them one, datasets.concatenate_datasets(list(train_dataset.values()))."
        )
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise InvalidValue(
            f"train_dataset={type(dataset).__name__} is a stream: its samples have no rows, and the Trainer uses no sampler. Read "
            "it into a Dataset, such as datasets.Dataset.from_list(list(stream)), or train on "
            "adaptive_sampler.webdataset.PlannedShards without sampler=."
        )
    _same_length(dataset, store)
    if type(dataset) is IndexedDataset and recorded:
        return RowedDataset(dataset.dataset, key=dataset.key or NAMES[0]), dataset.key or NAMES[0]
    if isinstance(dataset, IndexedDataset):
        return dataset, dataset.key
    if is_table(dataset):
        return _with_column(dataset)
    return (RowedDataset(dataset, store, key=NAMES[0]), NAMES[0]) if recorded else (dataset, None)


def is_table(dataset: Any) -> bool:
    """Whether it is a Hugging Face `Dataset`."""
    return is_datasets_available() and isinstance(dataset, datasets.Dataset)


def prepared(dataset: Any, store: ScoreStore, key: str | None) -> Any:
    """What a Trainer made of its train dataset, in the order of the rows: sample i is row i.

    A shuffle is undone, as the sampler shuffles. Raises `InvalidValue` if samples were dropped, split, or packed.
    """
    if key is None or not is_table(dataset):
        if dataset is not None:
            _same_length(dataset, store)
        return dataset
    if key not in dataset.column_names:
        raise InvalidValue(
            f"the Trainer's preparation left the column {key!r} out of the train dataset ({', '.join(dataset.column_names)}): it "
            "is not known which sample is which row. Prepare the dataset yourself and pass it prepared (for TRL "
            "dataset_kwargs={'skip_prepare_dataset': True}), the store being made for what is left of it."
        )
    rows = _column(dataset, key)
    n = len(store)
    if np.array_equal(rows, np.arange(n)):
        return dataset
    if np.array_equal(np.sort(rows), np.arange(n)):
        return dataset.select(np.argsort(rows))
    counts = np.bincount(rows[(rows >= 0) & (rows < n)], minlength=n)
    lost, several = np.flatnonzero(counts == 0), np.flatnonzero(counts > 1)
    which, what = (several, "in several pieces") if len(several) else (lost, "dropped")
    raise InvalidValue(
        f"the train dataset has {len(rows)} samples, the store {n} rows, and {len(which)} of these are {what} in its column "
        f"{key!r} ({', '.join(map(str, which[:5]))}{', …' if len(which) > 5 else ''}): the sampler would name samples that are "
        "others or do not exist. TRL drops what max_length leaves without a label. Do that before: filter the dataset, make "
        f"the store for what is left, n=len(dataset), and leave the column {key!r} out, so that rows are counted anew."
    )


def _same_length(dataset: Any, store: ScoreStore) -> None:
    if len(dataset) != len(store):
        raise InvalidValue(
            f"the train dataset has {len(dataset)} samples, the sampler's store {len(store)} rows: some would never be "
            "trained on, or do not exist. Make a store with n=len(train_dataset), or store.grow(len(train_dataset))."
        )


def _with_column(table: Any) -> tuple[Any, str]:
    """(the table with a column of rows, its name); its format, or its transform, passes the rows on."""
    key = next((name for name in NAMES if name not in table.column_names or _integers(table, name)), None)
    if key is None:
        raise InvalidValue(
            f"the train dataset's columns {' and '.join(map(repr, NAMES))} are no rows: rename one of them, "
            f"dataset.rename_column({NAMES[0]!r}, ...), or add the rows as integers, dataset.add_column({NAMES[0]!r}, range(n))."
        )
    form = table.format
    there = key in table.column_names
    if there:
        _are_rows(table, key)
    if there and key in form["columns"] and form["type"] != "custom":
        return table, key
    rowed = table if there else table.add_column(key, np.arange(len(table)))
    settings, columns = dict(form["format_kwargs"]), [*(c for c in form["columns"] if c != key), key]
    if form["type"] == "custom":
        settings["transform"] = RowsKept(settings["transform"], key)
    every = form["output_all_columns"]
    return rowed.with_format(form["type"], columns=columns, output_all_columns=every, **settings), key


def _column(table: Any, key: str) -> np.ndarray:
    return np.asarray(table.with_format("numpy", columns=[key])[:][key])


def _are_rows(table: Any, key: str) -> None:
    """Raise `InvalidValue` if the table's own column of integers is not each row once."""
    rows, n = _column(table, key), len(table)
    if not np.array_equal(np.sort(rows), np.arange(n)):
        raise InvalidValue(
            f"the train dataset's column {key!r} ({rows[0]}, ..., {rows[-1]}) does not hold each of the rows 0 to {n - 1} once. If "
            f"it means something else, rename it: dataset.rename_column({key!r}, 'number'); if samples were left out, remove it: "
            f"dataset.remove_columns({key!r}). Rows are then counted."
        )


def _integers(table: Any, name: str) -> bool:
    return str(getattr(table.features[name], "dtype", "")).startswith(("int", "uint"))
