"""What a Trainer's arguments ask for that would be ignored beside a sampler, or recorded wrongly by a hook."""

from typing import Any

import torch

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.transformers.at_hand import OWN_LOSS
from adaptive_sampler.torch.transformers.distinct import KINDS


def same_loss(criterion: torch.nn.Module, trainer: Any) -> None:
    """Raise `InvalidValue` if the Trainer's arguments make its loss another than that of the hook's criterion."""
    smoothing = trainer.args.label_smoothing_factor
    own = getattr(criterion, "label_smoothing", 0.0)
    if smoothing and own != smoothing:
        raise InvalidValue(
            f"label_smoothing_factor={smoothing}, and the hook's {type(criterion).__name__} has label_smoothing={own}: its losses "
            "would be recorded, and are not those trained on. Smooth both alike: "
            f"LossHook(nn.CrossEntropyLoss(label_smoothing={smoothing}), store)."
        )
    if getattr(trainer, "compute_loss_func", None) is not None:
        raise InvalidValue(
            f"compute_loss_func={trainer.compute_loss_func!r} gives one loss for all samples, a score takes the loss of each, and "
            f"that of the hook's {type(criterion).__name__} may be another. Leave it out and {OWN_LOSS}, "
            "the hook's criterion being that loss."
        )


def same_token_loss(trainer: Any) -> None:
    """Raise `InvalidValue` if the Trainer's arguments make its loss another than the cross entropy of its tokens."""
    smoothing = trainer.args.label_smoothing_factor
    other = getattr(trainer, "compute_loss_func", None)
    if smoothing or other is not None:
        named = f"label_smoothing_factor={smoothing}" if smoothing else f"compute_loss_func={other!r}"
        raise InvalidValue(
            f"{named} makes the training's loss another than the cross entropy of its tokens, which a TokenLossHook records: "
            "scores, and weights, would be those of a loss that is not trained on. Leave it out, or leave Loss() out of the "
            "store: EL2N, Entropy and Error are of the logits."
        )


def no_other_order(args: Any) -> None:
    """Raise `InvalidValue` if the arguments ask the Trainer for an order of its own, which the sampler would replace."""
    strategy = getattr(args, "train_sampling_strategy", "random")
    if strategy != "random":
        raise InvalidValue(
            f"train_sampling_strategy={strategy!r} beside sampler=: the sampler says which rows come, and in which order, so the "
            "strategy would be ignored. Leave it at 'random', its default."
        )
    batches = getattr(args, "batch_sampler", None)  # of sentence-transformers
    if batches is not None and getattr(batches, "value", batches) not in ("batch_sampler", *KINDS):
        raise InvalidValue(
            f"batch_sampler={getattr(batches, 'value', batches)!r} beside sampler=: the sampler says which rows come, and in which "
            "order, so that one would be ignored. Leave it at BatchSamplers.BATCH_SAMPLER, its default, or say NO_DUPLICATES."
        )


def no_own_sampler(kinds: list[type]) -> None:
    """Raise `InvalidValue` if one of a Trainer's classes, `kinds`, draws its train rows by a sampler of its own."""
    own = next((kind for kind in kinds if "_get_train_sampler" in vars(kind)), None)
    if own is not None:
        raise InvalidValue(
            f"{own.__name__} draws its train rows by a sampler of its own, which sampler= would replace: its batches are not any "
            "rows (a prompt comes several times in a row, pairs stay together). Select before: "
            "train_dataset.select(sampler.epoch_rows()[:])."
        )


def no_packing(args: Any) -> None:
    """Raise `InvalidValue` if TRL would pack the documents, once and for all, before any of them is selected."""
    if getattr(args, "packing", False):
        raise InvalidValue(
            "packing=True packs the documents once and for all before the first epoch, so none could be selected any more, and "
            "their rows are lost. Set packing=False, padding_free=True and max_length=None, over documents that are cut before: "
            "then those that are selected are laid into one row of the batch, without padding."
        )
