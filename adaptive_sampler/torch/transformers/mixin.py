"""The mixin that makes a Trainer use our sampler, carry rows beside its inputs, and record or weigh its losses."""

import contextlib
import copy
import functools
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import BatchSampler
from transformers import Trainer

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.loggers import Logger
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.torch.hook.hook import LossHook
from adaptive_sampler.torch.tokens.hook import TokenLossHook
from adaptive_sampler.torch.transformers.at_hand import AtHand, at_hand
from adaptive_sampler.torch.transformers.callback import SamplerCallback
from adaptive_sampler.torch.transformers.distinct import KINDS, DistinctBatches
from adaptive_sampler.torch.transformers.loggers import trainers_own
from adaptive_sampler.torch.transformers.rows import RowsBeside, prepared, with_rows
from adaptive_sampler.torch.transformers.settings import no_other_order, no_own_sampler, no_packing
from adaptive_sampler.torch.transformers.step import TrainerStep, weights_of
from adaptive_sampler.torch.transformers.ways import way_of


class AdaptiveTrainerMixin:
    """Makes a Trainer use our sampler and record scores: `class MyTrainer(AdaptiveTrainerMixin, SFTTrainer)`.

    Put it before the Trainer among the bases. `sampler`: draws the training rows, and weighs them where its plans do.
    `hook`: records what the store's scores take of logits and labels, or of the losses that a Trainer takes the mean of
    (`LossHook(TrainersLoss(), store)`); the loss that it records must be the training's own, which is compared once. A
    hook that lies inside the training's loss module records when that module calls it. `keep`: that of
    `SamplerCallback`, and so `loggers`; None for what `report_to` names of TensorBoard, Weights & Biases and MLflow. Raises
    `InvalidValue` if the arguments name another loss or another order, if the dataset does not fit the store, or if the Trainer's
    preparation drops, splits or packs samples.
    """

    def __init__(
        self,
        *args: Any,
        sampler: AdaptiveSampler,
        hook: LossHook | TokenLossHook | None = None,
        keep: int | None = None,
        loggers: Sequence[Logger] | None = None,
        **kwargs: Any,
    ) -> None:
        self.adaptive_sampler, self.hook = sampler, hook
        self._loads_training = False  # whether the train loader is being made
        self._at_hand: AtHand | None = None  # the batch of the running training_step
        kinds = type(self).__mro__
        no_own_sampler([kind for kind in kinds[kinds.index(AdaptiveTrainerMixin) + 1 :] if kind not in Trainer.__mro__])
        given = _Arguments(super().__init__, args, kwargs)
        no_packing(given.value("args"))
        with_column, self._row_key = with_rows(given.value("train_dataset"), sampler.store, recorded=hook is not None)
        given.put("train_dataset", with_column)
        super().__init__(*given.args, **given.kwargs)
        own: Any = self
        own.train_dataset = prepared(own.train_dataset, sampler.store, self._row_key)
        no_other_order(own.args)
        # Without a train dataset it evaluates and predicts.
        self._recording = None if hook is None or own.train_dataset is None else way_of(own, hook, self._row_key)
        reported = functools.partial(trainers_own, own) if loggers is None else loggers
        own.add_callback(SamplerCallback(sampler, keep=keep, loggers=reported))

    def _get_train_sampler(self, train_dataset: Any = None) -> AdaptiveSampler:
        return self.adaptive_sampler

    def get_batch_sampler(self, dataset: Any, batch_size: int, drop_last: bool, **settings: Any) -> Any:
        """The batches of sentence-transformers' train loader, of our sampler's rows; another loader's are its own."""
        if self._loads_training:
            own: Any = self
            if getattr(own.args.batch_sampler, "value", None) not in KINDS:
                return BatchSampler(self.adaptive_sampler, batch_size, drop_last)
            aside = {self._row_key, "dataset_name", *(settings.get("valid_label_columns") or ())}
            return DistinctBatches(self.adaptive_sampler, batch_size, drop_last, dataset, aside)
        return super().get_batch_sampler(dataset, batch_size=batch_size, drop_last=drop_last, **settings)  # type: ignore[misc]

    def get_train_dataloader(self) -> Any:
        """The Trainer's own train loader, in which rows go around the collator."""
        own: Any = self
        collator, key = own.data_collator, self._row_key
        if self.hook is not None and self._recording is None:
            raise InvalidValue(
                "the Trainer was made without train_dataset=, so no rows were added to it, and a hook= has nothing to record: with "
                "these it evaluates and predicts. To train, make it with the train dataset."
            )
        self._loads_training = True
        try:
            if key is not None:
                own.data_collator = RowsBeside(collator, key)
                if own.args.remove_unused_columns:
                    own._set_signature_columns_if_needed()
            columns = own._signature_columns
            if key is not None and columns is not None:
                own._signature_columns = [*columns, key]
            loader = super().get_train_dataloader()  # type: ignore[misc]  # a method of the Trainer
            own._signature_columns = columns
        finally:
            own.data_collator, self._loads_training = collator, False
        return loader

    def observation(self, outputs: Any, inputs: Any) -> dict[str, Any] | None:
        """What the store's scores take of a training batch, by name, each (batch, …); None for logits and labels.

        To be overridden for models whose outputs are no logits and labels, such as the two of question answering:
        {"loss": losses}, one a row. `outputs`: what the model returned; `inputs`: the batch without rows.
        """
        return None

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        """The Trainer's own loss, weighted where the plan weighs; in training, the hook records the batch's rows.

        Raises `InvalidValue` if a training batch carries no rows, and for what a hook or a weight cannot be true to.
        """
        rows = inputs.pop(self._row_key, None) if self._row_key else None
        call = functools.partial(super().compute_loss, model, inputs, return_outputs, **kwargs)  # type: ignore[misc]
        if not model.training or not torch.is_grad_enabled():
            return call()
        with self._batch(rows, inputs) as batch:
            if batch is None or self._recording is None:
                return call()
            step = TrainerStep(self, batch, dict(inputs), kwargs.get("num_items_in_batch"))
            return self._recording.run(call, model, step)

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's own step, in which the batch's rows are the hook's, whatever calls it; `inputs` come without rows.

        Raises `InvalidValue` as `compute_loss` does, and if an override of it had nothing recorded.
        """
        inputs = copy.copy(inputs)  # whoever steps twice on a batch needs its rows again
        rows = inputs.pop(self._row_key, None) if self._row_key else None
        with self._batch(rows, inputs) as batch:
            self._at_hand = batch
            try:
                loss = super().training_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
            finally:
                self._at_hand = None
            if batch is not None:
                batch.check(self)
        return loss

    @contextlib.contextmanager
    def _batch(self, rows: Any, inputs: Any) -> Iterator[AtHand | None]:
        """A context in which a batch in training is at hand, None without a hook; `rows` None: that of the running step."""
        if self.hook is None:
            if self.adaptive_sampler.plan.weighted:
                raise InvalidValue(
                    f"{self.adaptive_sampler.policy} weighs samples, and there is no hook= by which weights would reach the loss. "
                    "Pass hook=LossHook(criterion, store), or TokenLossHook(store) for a language model."
                )
            yield None
        elif rows is None and self._at_hand is not None:
            yield self._at_hand
        elif rows is None:
            raise InvalidValue(
                f"a batch for training has no {self._row_key!r}, only {', '.join(inputs)}: the train loader was made without "
                "self.data_collator, so nothing could be recorded. Have your get_train_dataloader call super()'s."
            )
        else:
            weights = weights_of(self.adaptive_sampler, rows)
            with at_hand(self.hook, self.adaptive_sampler, rows, weights) as batch:
                yield batch


class AdaptiveTrainer(AdaptiveTrainerMixin, Trainer):
    """Hugging Face's Trainer with an `AdaptiveSampler`; for its arguments see `AdaptiveTrainerMixin`."""


class _Arguments:
    """The arguments of a Trainer, by name however they were passed."""

    def __init__(self, init: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        names = [n for n, p in inspect.signature(init).parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
        self._at = {name: i for i, name in enumerate(names[: len(args)])}
        self.args, self.kwargs = list(args), dict(kwargs)

    def value(self, name: str) -> Any:
        return self.args[self._at[name]] if name in self._at else self.kwargs.get(name)

    def put(self, name: str, value: Any) -> None:
        if name in self._at:
            self.args[self._at[name]] = value
        elif name in self.kwargs:
            self.kwargs[name] = value
