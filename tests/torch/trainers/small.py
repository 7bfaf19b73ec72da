"""Small language models from configurations, documents, a tokenizer made in memory, and quiet arguments: for tests."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from torch import Tensor, nn
from transformers import TrainingArguments

from adaptive_sampler import ScoreStore
from adaptive_sampler.plan import Plan
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import KeepAll
from adaptive_sampler.selection.made import make
from adaptive_sampler.torch.data.samplers import AdaptiveSampler
from adaptive_sampler.torch.transformers import AdaptiveTrainer

N, BATCH, WORDS = 12, 4, 40
SMALL = {
    "vocab_size": WORDS,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}


def word(i: int) -> str:
    return f"w{3 + i % (WORDS - 3)}"


def text(row: int) -> str:
    """The document of a row: two to seven words."""
    return " ".join(word(7 * row + k * k) for k in range(2 + row % 6))


def tokenizer() -> Any:
    """A tokenizer of forty words, made here: nothing is downloaded."""
    vocabulary = {"[PAD]": 0, "[EOS]": 1, "[MASK]": 2, **{f"w{i}": i for i in range(3, WORDS)}}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[MASK]"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    named = {"pad_token": "[PAD]", "eos_token": "[EOS]", "mask_token": "[MASK]"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, **named)


def token_ids(row: int) -> list[int]:
    ids: list[int] = tokenizer()(text(row))["input_ids"]
    return ids


def documents(*names: str) -> list[dict[str, Any]]:
    """A sample for each row: its `input_ids`, and whatever else is named, which are the same tokens."""
    return [{name: token_ids(row) for name in ("input_ids", *names)} for row in range(N)]


def causal(**settings: Any) -> Any:
    """A Llama of one layer, whose losses differ much from document to document."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SMALL, num_key_value_heads=2, initializer_range=0.5, **settings)
    return transformers.LlamaForCausalLM(config)


def masked() -> Any:
    """A Bert of one layer, without dropout."""
    torch.manual_seed(0)
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.5}
    return transformers.BertForMaskedLM(transformers.BertConfig(**SMALL, **still))


def sequence_to_sequence() -> Any:
    """A T5 of one layer, without dropout."""
    torch.manual_seed(0)
    sizes = {"vocab_size": WORDS, "d_model": 16, "d_ff": 16, "d_kv": 8, "num_heads": 2, "num_layers": 1}
    config = transformers.T5Config(**sizes, dropout_rate=0.0, decoder_start_token_id=0, pad_token_id=0)
    return transformers.T5ForConditionalGeneration(config)


def quiet(folder: Path, kind: Any = TrainingArguments, **settings: Any) -> Any:
    """Arguments of one epoch at a rate of 0, so that every loss is the first model's."""
    given = {
        "use_cpu": True,
        "num_train_epochs": 1,
        "per_device_train_batch_size": BATCH,
        "per_device_eval_batch_size": BATCH,
        "learning_rate": 0.0,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return kind(str(folder), **(given | settings))


@dataclass(frozen=True, eq=False)
class Given:
    """A policy that visits every row, each with the weight given."""

    weights: np.ndarray

    def plan(self, store: Any, *, epoch: int, seed: int) -> Plan:
        return make(store, self, epoch, seed, weights=self.weights.astype(np.float32))


class Noting(AdaptiveTrainer):
    """Notes each training batch as it comes."""

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        self.seen.append({name: x.clone() if isinstance(x, Tensor) else x for name, x in inputs.items()})
        return super().training_step(model, inputs, *args, **kwargs)


def trained(
    model: Any, hook: Any, dataset: Any, collator: Any, folder: Path, policy: Any = None, **settings: Any
) -> Noting:
    """The trainer after its training."""
    sampler = AdaptiveSampler(hook.store, policy or KeepAll(), seed=1)
    trainer = Noting(
        model, quiet(folder, **settings), train_dataset=dataset, data_collator=collator, sampler=sampler, hook=hook
    )
    trainer.seen = []
    trainer.train()
    return trainer


def token_losses(logits: Tensor, labels: Tensor, *, shift: bool) -> Iterator[float]:
    """Slow and obvious: the mean loss of each row of a batch over its labels that are not −100."""
    for of_row, wanted in zip(logits.float(), labels, strict=True):
        losses = []
        for at in range(int(shift), len(wanted)):
            if wanted[at] != -100:
                losses.append(-of_row[at - int(shift)].log_softmax(-1)[wanted[at]].item())
        yield float(np.mean(losses)) if losses else float("nan")


def expected(model: Any, trainer: Noting, *, shift: bool) -> np.ndarray:
    """(N,) what every row's loss was, by the first model and the batches that it was given."""
    found = np.full(N, np.nan)
    model.eval()
    for inputs in trainer.seen:
        named = {name: x for name, x in inputs.items() if name != "row"}
        with torch.no_grad():
            logits = model(**named)["logits"]
        found[inputs["row"].numpy()] = list(token_losses(logits, inputs["labels"], shift=shift))
    return found


def alone(model: Any, row: int) -> float:
    """The loss of a row's document by itself, as the model computes it."""
    ids = torch.tensor([token_ids(row)])
    model.eval()
    with torch.no_grad():
        return float(model(input_ids=ids, labels=ids).loss)


def new_store(place: Path, *scores: Any) -> ScoreStore:
    return ScoreStore.create(place, N, list(scores) or [Loss()])


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: x.detach().clone() for name, x in model.state_dict().items()}
