"""Keeps the scores and the sampler in step with the checkpoints of Hugging Face's Trainer."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from transformers import TrainerCallback, TrainerState

from adaptive_sampler.errors import InvalidValue, ResumeError, SelectionLost
from adaptive_sampler.loggers import Logger
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.torch.check import check
from adaptive_sampler.torch.ranks.sync import committed
from adaptive_sampler.torch.ranks.visits import skipped_by_loop

KEY = "adaptive_sampler"  # the entry of trainer_state.json that holds our state


class SamplerCallback(TrainerCallback):
    """Keeps the scores and the sampler in step with the Trainer's checkpoints.

    Before each checkpoint and at the end of each epoch, the store is synced (if it is distributed) and committed, and
    the sampler's state goes into `trainer_state.json`. To resume, open the store at the commit that
    `commit_of(checkpoint)` returns, and call `trainer.train(resume_from_checkpoint=checkpoint)`. The Trainer itself
    skips what was done of the epoch, so the sampler begins the epoch from its start, by the plan that it had. The
    Trainer's `set_epoch` alone does not suffice: on several processes it does not reach the sampler. Raises
    `InvalidValue` for a DistributedAdaptiveSampler, and for plans of blocks (`replan=k`).

    `keep`: as for `ScoreStore.commit`. A checkpoint whose commit was dropped cannot be resumed. `loggers`: those of
    `adaptive_sampler.loggers` that log at the end of each epoch, as of the Trainer's global step; or a function that returns them
    then. `AdaptiveTrainer` passes those of its own `report_to`.
    """

    def __init__(
        self,
        sampler: AdaptiveSampler,
        *,
        keep: int | None = None,
        loggers: Sequence[Logger] | Callable[[], Sequence[Logger]] = (),
    ) -> None:
        if not isinstance(sampler, AdaptiveSampler) or isinstance(sampler.replan, int):
            raise InvalidValue(
                f"sampler={sampler!r}: an AdaptiveSampler with replan='epoch' or 'once', not DistributedAdaptiveSampler: the "
                "Trainer shares out batches itself, and skips whole epochs of them when it resumes."
            )
        self.sampler, self.keep, self.loggers = sampler, keep, loggers
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
        """Sync, commit and log the epoch's scores; a checkpoint may follow."""
        self._over = True
        self._keep(state)
        if state.is_world_process_zero:
            for logger in self.loggers() if callable(self.loggers) else self.loggers:
                logger.log(self.sampler.store, self.sampler, step=state.global_step)

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


def _saved(state: Any) -> dict[str, Any]:
    """Our entry in the Trainer's state. Raises `ResumeError` if there is none."""
    if KEY not in state.stateful_callbacks:
        raise ResumeError(
            f"the checkpoint holds no sampler state ({KEY!r} in trainer_state.json): it was saved without SamplerCallback. Its "
            "epoch's plan cannot be known; train anew, or from a checkpoint that has one."
        )
    saved: dict[str, Any] = state.stateful_callbacks[KEY]
    return saved
