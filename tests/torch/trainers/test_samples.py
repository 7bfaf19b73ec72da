"""Train datasets whose samples are no dicts, or that are not there: rows reach the hook, and evaluation needs none."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.selection import KeepAll
from adaptive_sampler.torch import IndexedDataset, LossHook
from adaptive_sampler.torch.data.samplers import AdaptiveSampler
from adaptive_sampler.torch.transformers import AdaptiveTrainer
from tests.torch.trainers.small import N, new_store, quiet, token_ids, trained
from tests.torch.trainers.test_weights import classifier

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers, on its own deprecations


@dataclass
class Labelled:
    """A sample, as older scripts make them."""

    ids: list[int]
    label: int


class Samples(Dataset[Any]):
    """Samples of one kind: tokens and a label."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def __len__(self) -> int:
        return N

    def __getitem__(self, row: int) -> Any:
        return self.kind(token_ids(row), row % 3)


def together(samples: list[Any]) -> dict[str, torch.Tensor]:
    pairs = [(s.ids, s.label) if isinstance(s, Labelled) else s for s in samples]
    ids = pad_sequence([torch.tensor(ids) for ids, _ in pairs], batch_first=True)
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": torch.tensor([label for _, label in pairs])}


@pytest.mark.parametrize("wrap", [lambda x: x, IndexedDataset, lambda x: IndexedDataset(x, key="row")])
@pytest.mark.parametrize("kind", [lambda *x: x, Labelled], ids=["tuples", "dataclasses"])
def test_samples_that_are_no_dicts_are_recorded(kind: Any, wrap: Any, place: Path) -> None:
    store = new_store(place)
    hook = LossHook(nn.CrossEntropyLoss(), store)
    trained(classifier(), hook, wrap(Samples(kind)), together, place.parent)
    assert store.count("loss").tolist() == [1] * N


def test_a_trainer_without_a_train_dataset_evaluates_and_does_not_train(place: Path) -> None:
    store = new_store(place)
    given = {"sampler": AdaptiveSampler(store, KeepAll()), "hook": LossHook(nn.CrossEntropyLoss(), store)}
    trainer = AdaptiveTrainer(
        classifier(), quiet(place.parent), data_collator=together, eval_dataset=Samples(lambda *x: x), **given
    )
    assert trainer.evaluate()["eval_loss"] > 0
    with pytest.raises(InvalidValue, match=r"made without train_dataset=.*To train, make it with the train dataset"):
        trainer.train()
