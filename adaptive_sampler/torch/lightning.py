"""Lightning: a callback that saves the sampler's state with every checkpoint and restores it before the first `iter`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adaptive_sampler.errors import InvalidValue, SelectionLost
from adaptive_sampler.loggers import Logger
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.torch.check import check
from adaptive_sampler.torch.data.chain import chain, several
from adaptive_sampler.torch.data.delivery import Ours
from adaptive_sampler.torch.ranks.sampler import inner
from adaptive_sampler.torch.ranks.sync import committed

try:
    from lightning.pytorch import Callback
except ImportError as error:
    raise ImportError('adaptive_sampler.torch.lightning needs Lightning: pip install "lightning>=2.2"') from error

from adaptive_sampler.torch.lightning_loggers import trainers_own

_OVERRIDDEN = (
    "the loader's own state, which Lightning restores after this callback's, {}: Lightning saved it a batch too late, or at the "
    "end of an epoch that it counts as over. Resume from another step's checkpoint; a plain DataLoader, which has no state of its "
    "own, goes on exactly from any."
)


class SamplerCallback(Callback):
    """Keeps the scores and the sampler's position in step with Lightning's checkpoints.

    `sampler`: the sampler, or a function without arguments that returns it, such as `lambda: module.sampler`. A
    `distributed_store` needs the process group, which on many ranks exists only inside `fit`; so make store, sampler and
    hook in `setup(stage)` of the module or datamodule, and pass the function. It is called once in each `fit`, after
    `setup` and before the checkpoint is restored. `InvalidValue` is raised if there is no sampler by then.

    At every checkpoint and at the end of each epoch, the store is synced (if it is distributed) and committed. To
    resume, open the store at the commit that the checkpoint needs, `SamplerCallback.commit_of(path)`, and call
    `Trainer.fit(..., ckpt_path=path)`. The sampler is restored before the loader is iterated: if the loader has
    workers, Lightning draws rows before it calls `set_epoch`.

    Nothing is recorded before training itself begins: not in sanity checks, and not in the steps of a tuner that tries
    learning rates. Among several loaders (a dict, a list, a CombinedLoader) the one with the sampler is found. If
    Lightning iterates that loader several times within one of its epochs, each time is an epoch of the sampler.

    `keep`: as for `ScoreStore.commit`. A checkpoint whose commit was dropped cannot be resumed. `loggers`: those of
    `adaptive_sampler.loggers` that log at the end of each epoch, as of the Trainer's global step; None for the Trainer's own
    loggers, [] for none.
    """

    def __init__(
        self,
        sampler: Ours | Callable[[], Ours],
        *,
        keep: int | None = None,
        loggers: Sequence[Logger] | None = None,
    ) -> None:
        if not isinstance(sampler, Ours) and not callable(sampler):
            raise InvalidValue(f"sampler={sampler!r}: pass one of our samplers, or a function that returns it.")
        self._given, self.keep, self.loggers = sampler, keep, loggers
        self._found: Ours | None = sampler if isinstance(sampler, Ours) else None
        self._rehearsing = False  # whether a fit has begun, and its training has not
        self._delivered = 0  # samples that this rank was given since the sampler's epoch was begun or resumed
        self._epoch = -1  # the sampler's epoch, to which `_delivered` belongs
        self._over = False  # whether Lightning's epoch is over
        self._progress: Any = None  # Lightning's own count of its batches
        self._loaded: dict[str, Any] | None = None  # the sampler's state in the checkpoint that training begins from

    @staticmethod
    def commit_of(path: Any) -> int:
        """The number of the store's commit that a checkpoint needs, for ScoreStore.open(..., version=...)."""
        import torch

        saved = torch.load(path, map_location="cpu", weights_only=True)
        return int(saved["callbacks"]["SamplerCallback"]["commit"])

    @property
    def state_key(self) -> str:
        """The key under which checkpoints keep this callback's state."""
        return "SamplerCallback"

    @property
    def sampler(self) -> Ours:
        """The sampler. Raises `InvalidValue` if the function that was given returns none, because none was made yet."""
        if self._found is None:
            self._found = _returned(self._given)
            self._rehearse(self._rehearsing)
        return self._found

    @property
    def _walk(self) -> AdaptiveSampler:
        return inner(self.sampler)

    def _rehearse(self, rehearsing: bool) -> None:
        """Have the store's hooks record nothing from now on, or record again; if the sampler is not known yet, once it is."""
        self._rehearsing = rehearsing
        if self._found is not None:
            inner(self._found).store.session.rehearsal = rehearsing

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Record nothing until training begins, and ask for the sampler anew, because `setup` of the module makes another.

        Set here, because a tuner removes this callback while it tries rates. Before that it asks for `state_dict`, which
        finds a sampler that the module makes after this.
        """
        if self._given is not self._found:
            self._found = None
        self._rehearse(stage == "fit")

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Discard what an earlier fit or a tuner has drawn, because Lightning draws anew before it calls `set_epoch`."""
        if self._walk.walking is not None and trainer.train_dataloader is None:
            if self._walk.epoch == trainer.current_epoch:
                self._walk.restart()
            else:
                self._walk.set_epoch(trainer.current_epoch)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Record every step from here on. Raises `SelectionLost` if Lightning replaced the sampler."""
        self._check(trainer)  # an epoch that is gone on with has no `on_train_epoch_start`
        self._rehearse(False)
        self._progress = trainer.fit_loop.epoch_loop.batch_progress
        self._over, self._epoch = False, -1

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Record again: whatever follows is not a rehearsal."""
        self._rehearse(False)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """As `teardown`, which Lightning may skip after an exception."""
        self._rehearse(False)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin an epoch. Raises `SelectionLost` if Lightning replaced the sampler, or stops before the end of the plan."""
        self._check(trainer)
        self._over, self._epoch = False, -1
        loader = trainer.train_dataloader
        # The length of several loaders depends on their mode, and a stream has none.
        if several(loader) is not None or not hasattr(loader, "__len__"):
            return
        batches, frozen = len(loader), trainer.num_training_batches
        if trainer.limit_train_batches == 1.0 and trainer.overfit_batches == 0 and batches > frozen:
            raise SelectionLost(
                f"epoch {self._walk.epoch} has {batches} batches, but Lightning took the number of them once, {frozen}, and stops "
                "there. Make lengths constant by num_samples=, or set Trainer(reload_dataloaders_every_n_epochs=1)."
            )

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """At an epoch's first batch, check that it is the one that a checkpoint goes on with. Raises `SelectionLost` if not."""
        if self._epoch == self._walk.epoch:
            return
        self._epoch, self._delivered = self._walk.epoch, 0
        loaded, self._loaded = self._loaded, None
        if loaded is not None and (self._epoch, self._walk.start) > _begins(loaded):
            where = f"sample {self._walk.start} of epoch {self._epoch}, past sample {_begins(loaded)[1]} of epoch {loaded['epoch']}"
            raise SelectionLost(_OVERRIDDEN.format(f"goes on at {where}"))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count the samples that were trained on; with workers they are fewer than were drawn."""
        self._delivered += _size(*self._ours(trainer.train_dataloader, batch))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Sync, commit and log the epoch's scores. The epoch is over, even if `limit_train_batches` cut it short.

        Raises `SelectionLost` if the checkpoint had a whole epoch to come, and no batch of it came.
        """
        loaded, self._loaded = self._loaded, None
        if loaded is not None and not loaded["position"]:  # a whole epoch was to come, and no batch came
            raise SelectionLost(_OVERRIDDEN.format(f"left nothing of epoch {loaded['epoch']}"))
        self._over = True
        self._keep()
        if trainer.is_global_zero:
            for logger in trainers_own(trainer.loggers) if self.loggers is None else self.loggers:
                logger.log(self._walk.store, self._walk, step=trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint: the sampler's state, "walk", and the number of the store's commit that it needs, "commit"."""
        commit = self._keep()
        return {"walk": self._state(), "commit": commit}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the sampler from a checkpoint."""
        self._loaded = state["walk"]
        self.sampler.load_state_dict(state["walk"])

    def _check(self, trainer: Any) -> None:
        """Raise `SelectionLost` if Lightning does not draw from the sampler."""
        if trainer.overfit_batches == 0:  # overfitting removes samplers on purpose
            check(trainer.train_dataloader, sampler=self._walk)

    def _state(self) -> dict[str, Any]:
        """The sampler's state at the place where Lightning goes on.

        A checkpoint of an epoch's last batch goes on with the next epoch. One from the validation after that batch
        still belongs to this epoch, of which no samples are left.
        """
        walk, progress = self._walk, self._progress
        if self._over:
            return walk.state_after()
        if self._epoch != walk.epoch:  # no batch of this epoch was trained on
            return self.sampler.state_dict(delivered=self.sampler.start)
        if progress is not None and progress.is_last_batch:  # also of an epoch that limit_train_batches cut short
            training = progress.current.completed < progress.current.processed
            return walk.state_after() if training else walk.state_of(walk.walking, len(walk))
        return self.sampler.state_dict(delivered=self.sampler.start + self._delivered)

    def _ours(self, loader: Any, batch: Any) -> tuple[Any, Any]:
        """Of several loaders the one that has our sampler, and its part of the batch."""
        while (inside := several(loader)) is not None:
            at = next((i for i, part in enumerate(inside) if any(link is self._walk for link in chain(part))), None)
            if at is None:
                break
            loader, batch = inside[at], list(batch.values())[at] if isinstance(batch, Mapping) else batch[at]
        return loader, batch

    def _keep(self) -> int:
        """Sync the store if it is distributed, commit it, and return the commit's number."""
        return committed(self._walk.store, self.sampler, keep=self.keep)


def _returned(make: Any) -> Ours:
    """The sampler that the function returns. Raises `InvalidValue` if it returns none, or finds no attribute yet."""
    found, error = None, None
    try:
        found = make()
    except AttributeError as missing:
        error = missing
    if isinstance(found, Ours):
        return found
    raise InvalidValue(
        f"the function that SamplerCallback was given returned no sampler: {error or repr(found)}. Make store, sampler and hook "
        "in setup(stage) of the module or datamodule: Lightning restores a checkpoint before it calls train_dataloader()."
    ) from error


def _begins(walk: dict[str, Any]) -> tuple[int, int]:
    """(epoch, position) of the first batch that comes after a saved sampler state."""
    ended = walk["position"] and walk["position"] == walk["length"]
    return (walk["epoch"] + 1, 0) if ended else (walk["epoch"], walk["position"])


def _size(loader: Any, batch: Any) -> int:
    """The number of samples in a batch: by its rows, or, if the batch has none any more, by the loader's batch size."""
    rows = batch[0] if isinstance(batch, (tuple, list)) and batch else None
    key = getattr(getattr(loader, "dataset", None), "key", None)
    if key is not None and isinstance(batch, Mapping):
        rows = batch.get(key)
    if rows is not None and hasattr(rows, "__len__"):
        return len(rows)
    return int(getattr(loader.batch_sampler, "batch_size", None) or loader.batch_size)
