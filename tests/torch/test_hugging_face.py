"""Dict samples through the collators of Hugging Face transformers, their row among them by `key=`."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from adaptive_sampler.scoring import EL2N, Loss
from adaptive_sampler.torch import IndexedDataset, LossHook, PrunedSampler, observe
from tests.torch.samples import make_store

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
N = 12


def tokenizer():
    """A tokenizer of twenty words, made here: nothing is downloaded."""
    vocabulary = {"[PAD]": 0, **{f"w{i}": i for i in range(1, 20)}}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[PAD]"))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]")


def samples():
    """Sample i has i + 1 tokens, all of them i + 1, and the label i mod 2."""
    return [{"input_ids": [i + 1] * (i + 1), "attention_mask": [1] * (i + 1), "labels": i % 2} for i in range(N)]


COLLATORS = {
    "padding": lambda: transformers.DataCollatorWithPadding(tokenizer()),
    "padding to a multiple": lambda: transformers.DataCollatorWithPadding(tokenizer(), pad_to_multiple_of=8),
    "default": lambda: transformers.default_data_collator,
}


def loader(name, **arguments):
    data = samples()
    if name == "default":  # it stacks, so samples must have one length
        data = [sample | {"input_ids": [i + 1] * 4, "attention_mask": [1] * 4} for i, sample in enumerate(data)]
    return DataLoader(IndexedDataset(data, key="row"), batch_size=5, collate_fn=COLLATORS[name](), **arguments)


class Classifier(nn.Module):
    """Mean of embeddings, then two classes; called as transformers call their models."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 8), nn.Linear(8, 2)

    def forward(self, input_ids, attention_mask, labels=None):
        mask = attention_mask[..., None]
        logits = self.head((self.embedding(input_ids) * mask).sum(1) / mask.sum(1))
        return transformers.modeling_outputs.SequenceClassifierOutput(logits=logits)


@pytest.mark.parametrize("name", COLLATORS)
def test_the_hook_books_every_loss_on_its_row_through_a_collator(name):
    store, model = make_store(Loss(), EL2N(), n=N), Classifier()
    hook, expected = LossHook(nn.CrossEntropyLoss(), store), {}
    for batch in hook.watch(loader(name, shuffle=True)):
        logits = model(**batch).logits
        hook(logits, batch["labels"])
        losses = nn.functional.cross_entropy(logits, batch["labels"], reduction="none")
        expected |= dict(zip((batch["input_ids"][:, 0] - 1).tolist(), losses.tolist(), strict=True))
    np.testing.assert_allclose(store["loss"], [expected[row] for row in range(N)], rtol=1e-6)


@pytest.mark.parametrize("name", COLLATORS)
def test_the_row_is_taken_off_so_that_the_model_never_sees_it(name):
    hook = LossHook(nn.CrossEntropyLoss(), make_store(n=N))
    batch = next(watched := hook.watch(loader(name)))
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    watched.close()


def test_the_batch_keeps_its_type():
    hook = LossHook(nn.CrossEntropyLoss(), make_store(n=N))
    batch = next(watched := hook.watch(loader("padding")))
    assert isinstance(batch, transformers.BatchEncoding)
    watched.close()


@pytest.mark.parametrize("name", COLLATORS)
def test_observe_scores_through_a_collator(name):
    store = make_store(EL2N(), n=N)
    assert observe(Classifier(), loader(name), store, progress=False) == N
    assert store.observed("el2n") == N


def test_a_pruned_sampler_with_a_collator_trains_on_the_kept_rows():
    store = make_store(Loss(), n=N)
    store.fold("loss", range(N), np.arange(float(N)))
    hook, seen = LossHook(nn.CrossEntropyLoss(), store), []
    for batch in hook.watch(loader("padding", sampler=PrunedSampler(store, keep=0.5, by="loss"))):
        seen += (batch["input_ids"][:, 0] - 1).tolist()
        hook(torch.zeros(len(batch["labels"]), 2, requires_grad=True), batch["labels"])
    assert sorted(seen) == list(range(6, 12))
