"""Hugging Face's Trainer: makes it use our sampler, carry rows with inputs, record outputs, and resume in the right epoch."""

import warnings
from typing import Any

import torch

from adaptive_sampler.errors import InvalidValue, ResumeError, SelectionLost
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.torch.check import check
from adaptive_sampler.torch.hook.hook import LossHook
from adaptive_sampler.torch.hook.reduction import unreduced
from adaptive_sampler.torch.ranks.sync import committed
from adaptive_sampler.torch.ranks.visits import skipped_by_loop

try:
    from transformers import Trainer, TrainerCallback, TrainerState
except ImportError as error:
    raise ImportError(
        'adaptive_sampler.torch.transformers needs Transformers: pip install "transformers[torch]>=4.46"'
    ) from error

KEY = "adaptive_sampler"  # the entry of trainer_state.json that holds our state


class SamplerCallback(TrainerCallback):
    """Keeps the scores and the sampler in step with the Trainer's checkpoints.

    Before each checkpoint and at the end of each epoch, the store is synced (if it is distributed) and committed, and
    the sampler's state goes into `trainer_state.json`. To resume, open the store at the commit that
    `commit_of(checkpoint)` returns, and call `trainer.train(resume_from_checkpoint=checkpoint)`. The Trainer itself
    skips what was done of the epoch, so the sampler begins the epoch from its start, by the plan that it had. The
    Trainer's `set_epoch` alone does not suffice: on several processes it does not reach the sampler. Raises
    `InvalidValue` for a DistributedAdaptiveSampler, and for plans of blocks (`replan=k`).

    `keep`: as for `ScoreStore.commit`. A checkpoint whose commit was dropped cannot be resumed.
    """

    def __init__(self, sampler: AdaptiveSampler, *, keep: int | None = None) -> None:
        if not isinstance(sampler, AdaptiveSampler) or isinstance(sampler.replan, int):
            raise InvalidValue(
                f"sampler={sampler!r}: an AdaptiveSampler with replan='epoch' or 'once', not DistributedAdaptiveSampler: the "
                "Trainer shares out batches itself, and skips whole epochs of them when it resumes."
            )
        self.sampler, self.keep = sampler, keep
        self._steps_per_epoch = 0  # as the Trainer counts them, once, at the beginning
        self._begun_at = 0  # the Trainer's global step at which this epoch began
        self._checked = False  # whether this epoch's loader was checked
        # Whether this epoch is over; whether a warning of shorter epochs was given.
        self._over = self._warned = False

    @staticmethod
    def commit_of(checkpoint: Any) -> int:
        """The number of the store's commit that a checkpoint needs, for ScoreStore.open(..., version=...)."""
        return int(_saved(TrainerState.load_from_json(f"{checkpoint}/trainer_state.json"))["commit"])

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Restore the sampler if training resumes, before any row is drawn. Raises `ResumeError` if that is impossible."""
        accumulated = args.gradient_accumulation_steps
        self._steps_per_epoch = max(-(-len(kwargs["train_dataloader"]) // accumulated), 1)
        self._begun_at = state.global_step
        if state.global_step:
            saved = _saved(state)
            _same_place(saved, *divmod(state.global_step, self._steps_per_epoch))
            _skips(args, saved)
            self._begun_at -= saved["done"]
            # The Trainer skips the batches before that place itself, so the sampler begins the epoch at its start.
            self.sampler.load_state_dict(saved["walk"] | {"position": 0})
            skipped_by_loop(self.sampler, saved["walk"]["position"])

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin an epoch, whose loader is then checked at its first step."""
        self._checked = False
        if self._over:
            self._begun_at, self._over = state.global_step, False

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """At an epoch's first step, when its plan is fixed, check that the Trainer follows it, or raise `SelectionLost`."""
        if not self._checked:
            self._checked = True
            loader = kwargs["train_dataloader"]
            check(loader, sampler=self.sampler)
            own = max(-(-len(loader) // args.gradient_accumulation_steps), 1)
            _whole_plan(own, self._steps_per_epoch, self.sampler, warn=not self._warned)
            self._warned |= own < self._steps_per_epoch

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Sync and commit if a checkpoint is about to be written."""
        if control.should_save:
            self._keep(state, args.gradient_accumulation_steps * kwargs["train_dataloader"].total_batch_size)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Sync and commit the epoch's scores; a checkpoint may follow."""
        self._over = True
        self._keep(state)

    def _keep(self, state: Any, samples: int = 0) -> None:
        """Sync the store if it is distributed, commit it, and put the sampler's state where the next checkpoint keeps it.

        `samples`: of all processes in a step; not needed at the end of an epoch.
        """
        commit = committed(self.sampler.store, self.sampler, keep=self.keep)
        done = state.global_step - self._begun_at
        over = self._over or done == self._steps_per_epoch
        delivered = min(done * samples, self.sampler.drawn)  # the last batch of a plan may be short
        walk = self.sampler.state_after() if over else self.sampler.state_dict(delivered=delivered)
        state.stateful_callbacks[KEY] = {"walk": walk, "commit": commit, "done": 0 if over else done}


class AdaptiveTrainerMixin:
    """Makes a Trainer use our sampler and record scores: `class MyTrainer(AdaptiveTrainerMixin, SFTTrainer)`.

    Put it before the Trainer among the bases. `sampler`: draws the training rows. `hook`: records what the store's
    scores take of logits and labels; the loss that it records is that of the hook's criterion, which must be the
    training's own loss. `keep`: that of `SamplerCallback`. Train on `IndexedDataset(dataset, key="row")`: the rows go
    through the collator beside the inputs. Raises `InvalidValue` if the arguments name another loss or another order,
    or if the dataset does not fit the store.
    """

    def __init__(
        self, *args: Any, sampler: AdaptiveSampler, hook: LossHook | None = None, keep: int | None = None, **kwargs: Any
    ) -> None:
        self.adaptive_sampler, self.hook = sampler, hook
        super().__init__(*args, **kwargs)
        train: Any = getattr(self, "train_dataset", None)
        self._row_key = getattr(train, "key", None)
        _same_rows(train, sampler)
        _no_other_order(self.args)  # type: ignore[attr-defined]  # an attribute of the Trainer
        if hook is not None and self._row_key is None:
            raise InvalidValue(
                "the train dataset's samples carry no rows: pass IndexedDataset(dataset, key='row'); its key goes through the "
                "collator and is taken off before the model is called."
            )
        if hook is not None:
            if hook.store.session.takes("loss"):
                _same_loss(hook.criterion, self)
            hook.to(self.args.device)  # type: ignore[attr-defined]  # of the Trainer; class weights go to the logits
        self.add_callback(SamplerCallback(sampler, keep=keep))  # type: ignore[attr-defined]  # a method of the Trainer

    def _get_train_sampler(self, train_dataset: Any = None) -> AdaptiveSampler:
        return self.adaptive_sampler

    def _set_signature_columns_if_needed(self) -> None:
        """Keep the rows in the batch: the Trainer would drop them, because the model's forward does not take them."""
        super()._set_signature_columns_if_needed()  # type: ignore[misc]  # a method of the Trainer
        columns: list[str] = self._signature_columns  # type: ignore[has-type]  # set by the Trainer
        key = getattr(self, "_row_key", None)
        self._signature_columns = columns if key is None or key in columns else [*columns, key]

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        """The Trainer's own loss; in training, the hook also records the outputs at the batch's rows.

        Raises `InvalidValue` if a training batch carries no rows, or if the plan weights samples, which the model's
        loss cannot do.
        """
        rows = inputs.pop(self._row_key, None) if self._row_key else None
        labels = inputs.get("labels")
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)  # type: ignore[misc]  # a method of the Trainer
        if self.hook is not None and model.training and torch.is_grad_enabled():
            if rows is None:
                raise InvalidValue(
                    f"a batch for training has no {self._row_key!r}, only {', '.join(inputs)}: the collator left the rows out, so "
                    f"nothing could be recorded. Have it stack {self._row_key!r} beside the inputs, as the default collator does."
                )
            if self.adaptive_sampler.plan.weighted:
                raise InvalidValue(
                    f"{self.adaptive_sampler.policy} weighs samples, which the model's own loss does not. Override compute_loss: "
                    "take the rows off and return LossHook(criterion, store, sampler=sampler)(logits, labels, rows=rows)."
                )
            logits = _shaped(outputs["logits"].detach(), labels)
            self.hook.record_outputs(rows, logits, labels, _losses(self.hook, logits, labels))
        return (loss, outputs) if return_outputs else loss


class AdaptiveTrainer(AdaptiveTrainerMixin, Trainer):
    """Hugging Face's Trainer with an `AdaptiveSampler`; for its arguments see `AdaptiveTrainerMixin`."""


def _same_loss(criterion: torch.nn.Module, trainer: Any) -> None:
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
            f"that of the hook's {type(criterion).__name__} may be another. Leave it out and override compute_loss: take rows and "
            "labels off the inputs and return hook(outputs.logits, labels, rows=rows), the hook's criterion being that loss."
        )


def _same_place(saved: dict[str, Any], epoch: int, step: int) -> None:
    """Raise `ResumeError` if the Trainer would resume after another step than the checkpoint's.

    The Trainer would resume after `step` steps of `epoch`. It computes both from an epoch length that it takes once,
    which is wrong if epochs had different lengths.
    """
    ours = saved["walk"]["epoch"], saved["done"]
    if ours != (epoch, step):
        raise ResumeError(
            f"the checkpoint lies after step {ours[1]} of epoch {ours[0]}, and the Trainer, which takes an epoch's length once, "
            f"would go on after step {step} of epoch {epoch}: epochs had other lengths, and rows would be trained twice or never. "
            "Train with num_samples=, which keeps lengths constant; this checkpoint's model can begin a new training."
        )


def _skips(args: Any, saved: dict[str, Any]) -> None:
    """Raise `ResumeError` if the Trainer would not skip the batches of the epoch that are done, but train on them again."""
    if args.ignore_data_skip and saved["done"]:
        raise ResumeError(
            f"ignore_data_skip=True, and the checkpoint lies after step {saved['done']} of epoch {saved['walk']['epoch']}: the "
            "Trainer would begin that epoch anew, and train on its first rows twice. Leave ignore_data_skip at False, or resume "
            "from the checkpoint of an epoch's end."
        )


def _whole_plan(own: int, steps: int, sampler: AdaptiveSampler, *, warn: bool) -> None:
    """Raise `SelectionLost` if the epoch has more steps, `own`, than the Trainer counts, `steps`; warn if it has fewer."""
    if own > steps:
        raise SelectionLost(
            f"epoch {sampler.epoch} has {own} steps, but the Trainer took the number of them once, {steps}, and stops there. Make "
            "lengths constant by num_samples=."
        )
    if own < steps and warn:
        warnings.warn(
            f"epoch {sampler.epoch} has {own} steps, and the Trainer, which took the number of them once, counts {steps}: its "
            "learning-rate schedule ends early, and checkpoints from here on cannot be resumed. Make lengths constant by "
            "num_samples=.",
            RuntimeWarning,
            stacklevel=2,
        )


def _same_rows(train: Any, sampler: AdaptiveSampler) -> None:
    """Raise `InvalidValue` if the train dataset and the sampler's store differ in length."""
    if hasattr(train, "__len__") and len(train) != len(sampler.store):
        raise InvalidValue(
            f"the train dataset has {len(train)} samples, the sampler's store {len(sampler.store)} rows: some would never be "
            "trained on, or do not exist. Make a store with n=len(train_dataset), or store.grow(len(train_dataset))."
        )


def _no_other_order(args: Any) -> None:
    """Raise `InvalidValue` if the arguments ask the Trainer for an order of its own, which the sampler would replace."""
    strategy = getattr(args, "train_sampling_strategy", "random")
    if strategy != "random":
        raise InvalidValue(
            f"train_sampling_strategy={strategy!r} beside sampler=: the sampler says which rows come, and in which order, so the "
            "strategy would be ignored. Leave it at 'random', its default."
        )


def _shaped(logits: torch.Tensor, labels: Any) -> torch.Tensor:
    """The logits in the labels' shape.

    With one target, models give (batch, 1), which a regression's criterion would broadcast against (batch,) labels.
    """
    single = logits.ndim == 2 and logits.shape[1] == 1 and isinstance(labels, torch.Tensor)
    return logits[:, 0] if single and labels.ndim == 1 and labels.is_floating_point() else logits


def _losses(hook: LossHook, logits: torch.Tensor, labels: Any) -> torch.Tensor | None:
    """(batch,) losses, each the mean over the sample's targets, as multi-label models compute it; None for the hook's own."""
    several = isinstance(labels, torch.Tensor) and labels.ndim == 2 and labels.is_floating_point()
    if not several or getattr(hook.criterion, "reduction", None) != "mean" or not hook.store.session.takes("loss"):
        return None
    with torch.no_grad():
        losses = unreduced(hook.criterion, logits, labels)
    return losses.flatten(1).mean(1) if losses.ndim > 1 else losses


def _saved(state: Any) -> dict[str, Any]:
    """Our entry in the Trainer's state. Raises `ResumeError` if there is none."""
    if KEY not in state.stateful_callbacks:
        raise ResumeError(
            f"the checkpoint holds no sampler state ({KEY!r} in trainer_state.json): it was saved without SamplerCallback. Its "
            "epoch's plan cannot be known; train anew, or from a checkpoint that has one."
        )
    saved: dict[str, Any] = state.stateful_callbacks[KEY]
    return saved
