"""`html`: the whole page of a store, as one file that needs no network."""

import os
from collections.abc import Sized
from pathlib import Path
from typing import Any

import numpy as np

from adaptive_sampler.arrays import to_host
from adaptive_sampler.disk import write_whole
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.plan import Plan
from adaptive_sampler.report import classes
from adaptive_sampler.report.content import Content
from adaptive_sampler.report.plans import newest_plan, visits
from adaptive_sampler.report.rendering import render
from adaptive_sampler.store import ScoreStore


def html(
    store: ScoreStore,
    path: str | os.PathLike[str],
    *,
    dataset: Any = None,
    plan: Plan | None = None,
    labels: Any = None,
    predictions: Any = None,
    title: str | None = None,
) -> Path:
    """Write a page to look at a store: what it holds, what a plan keeps of it, and the samples behind the scores.

    It is one file of about 1 to 4 MB that loads nothing from anywhere. Text in it, of labels, keys or samples, is shown as text.

    Args:
        store: any number of rows; what is drawn is counted in bins first.
        path: the file to write; its folder is made.
        dataset: what the rows number, for the gallery: `dataset[row]` is an image (of PIL, NumPy or torch), a text, a dict,
            or a tuple of one of these and a label. A sample that cannot be read is shown as such.
        plan: the plan to show. None: the newest that is saved, if one is.
        labels: (n,) integers, bools or strings, the class or group of each row, or the name of a column of the store. None: the
            dataset's `targets` or `labels`, or the store's column of such a name, if there is one.
        predictions: (n,) the model's classes, to stand beside the labels.
        title: of the page. None: the name of the store.

    Returns:
        The path of the file.

    Raises:
        InvalidValue: a dataset, labels, predictions or a plan of other rows than the store's; labels that are no classes; a `path`
            that is a folder, or that cannot be written.
    """
    file = Path(path)
    if file.is_dir():
        raise InvalidValue(f"path={str(path)!r} is a folder: name a file in it, such as {str(file / 'report.html')!r}.")
    dataset = _samples(store, dataset)
    plan = newest_plan(store) if plan is None else plan
    visited = None if plan is None else visits(plan, len(store)) > 0
    found = classes.find(store, dataset, labels)
    guessed = _of_rows(store, predictions)
    if guessed is not None and found is not None:
        guessed = _alike(guessed, found.values)
    content = Content(store, dataset, plan, visited, found, guessed)
    page = render(content, title or Path(str(store.path)).name)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, [page.encode("utf-8", "replace")], lasting=False)
    except OSError as error:
        raise InvalidValue(
            f"path={str(path)!r} cannot be written ({error.strerror}). Name a file in a folder to which this process "
            "may write, on a disk with room."
        ) from error
    return file


def _samples(store: ScoreStore, dataset: Any) -> Any:
    """The dataset without its rows, if it is an `IndexedDataset`. Raises `InvalidValue` for one of another length."""
    if dataset is None:
        return None
    if type(dataset).__name__ == "IndexedDataset":
        dataset = dataset.dataset
    if not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__"):
        raise InvalidValue(
            f"dataset is of {type(dataset).__name__}: one with a length and samples by number is needed, dataset[row]. Leave "
            "it out, and the page has no pictures."
        )
    if len(dataset) != len(store):
        raise InvalidValue(
            f"dataset has {len(dataset)} samples, the store {len(store)} rows: row i must be dataset[i]. Pass the dataset that the "
            "store was made for."
        )
    return dataset


def _alike(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The predictions written as the labels are: True and 1 are one class where only one of the two is of bools."""
    kinds = predictions.dtype.kind, labels.dtype.kind
    if kinds[0] == "b" and kinds[1] in "iu":
        return predictions.astype(labels.dtype)
    if kinds[1] == "b" and kinds[0] in "iu" and np.isin(predictions, (0, 1)).all():
        return predictions.astype(np.bool_)
    return predictions


def _of_rows(store: ScoreStore, predictions: Any) -> np.ndarray | None:
    if predictions is None:
        return None
    try:
        found = np.asarray(to_host(predictions))
    except (ValueError, TypeError) as error:
        raise InvalidValue(f"predictions are no array: {error}. Pass one class for each row.") from error
    if found.shape != (len(store),):
        raise InvalidValue(
            f"predictions have shape {found.shape}: one class for each of the {len(store)} rows is needed. Of logits, take the "
            "argmax."
        )
    if found.dtype.kind == "f" and ((np.abs(found) < 2**53) & (found == np.rint(found))).all():
        return found.astype(np.int64)  # classes as a model's output may hold them: 1.0 is class 1
    return found
