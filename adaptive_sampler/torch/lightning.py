"""Lightning: a callback that saves the walk with every checkpoint and restores it before the first `iter`."""

from collections.abc import Mapping
from typing import Any

from adaptive_sampler.errors import SelectionLost
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.torch.check import check
from adaptive_sampler.torch.data.chain import chain, several
from adaptive_sampler.torch.ranks.sampler import DistributedAdaptiveSampler, inner
from adaptive_sampler.torch.ranks.sync import sync

try:
    from lightning.pytorch import Callback
except ImportError as error:
    raise ImportError('adaptive_sampler.torch.lightning needs Lightning: pip install "lightning>=2.2"') from error


_OVERRIDDEN = (
    "the loader's own state, which Lightning restores after this callback's, {}: Lightning saved it a batch too late, or at the "
    "end of an epoch that it counts as over. Resume from another step's checkpoint; a plain DataLoader, which has no state of its "
    "own, goes on exactly from any."
)


class SamplerCallback(Callback):
    """Keeps the scores and the sampler's position in step with Lightning's checkpoints.

    At every checkpoint, and at each epoch's end, the store is synced (where it is distributed) and committed. Resume with
    `Trainer.fit(..., ckpt_path=...)` and the store opened at the checkpoint's commit, `SamplerCallback.commit_of(path)`.
    Lightning draws before it calls `set_epoch` when a loader has workers: only a state restored this early is right.

    What runs before training proper, sanity checks and the tuner's steps at exploding learning rates, records nothing.
    Among several loaders (a dict, a list, a CombinedLoader) the sampler is found where it is; where Lightning begins its
    loader again within an epoch, each time is an epoch of the sampler's.
    """

    def __init__(self, sampler: AdaptiveSampler | DistributedAdaptiveSampler) -> None:
        self.sampler = sampler
        self._walk = inner(sampler)
        self._delivered = 0  # samples that this rank was given since the sampler's epoch was begun or resumed
        self._epoch = -1  # the sampler's, to which these belong
        self._over = False  # whether Lightning's epoch is
        self._progress: Any = None  # Lightning's own count of its batches
        self._loaded: dict[str, Any] | None = None  # the walk of the checkpoint that training begins from

    @staticmethod
    def commit_of(path: Any) -> int:
        """The store's commit that a checkpoint needs: ScoreStore.open(..., version=...)."""
        import torch

        saved = torch.load(path, map_location="cpu", weights_only=True)
        return int(saved["callbacks"]["SamplerCallback"]["commit"])

    @property
    def state_key(self) -> str:
        """Where checkpoints keep this callback's state."""
        return "SamplerCallback"

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Until training begins nothing counts: a tuner takes this callback away while it tries learning rates."""
        self._walk.store.session.rehearsal = stage == "fit"

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """What an earlier fit, or a tuner, has drawn is over: Lightning will draw anew, and before it tells the epoch."""
        if self._walk.walking is not None and trainer.train_dataloader is None:
            if self._walk.epoch == trainer.current_epoch:
                self._walk.restart()
            else:
                self._walk.set_epoch(trainer.current_epoch)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """From here on every step is recorded."""
        self._walk.store.session.rehearsal = False
        self._progress = trainer.fit_loop.epoch_loop.batch_progress
        self._over, self._epoch = False, -1

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Whatever follows is no rehearsal."""
        self._walk.store.session.rehearsal = False

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """As `teardown`, which an exception may skip."""
        self._walk.store.session.rehearsal = False

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """A new epoch has no steps yet. Raises `SelectionLost` where Lightning would leave the end of its plan out."""
        self._over, self._epoch = False, -1
        loader = trainer.train_dataloader
        if several(loader) is not None or not hasattr(loader, "__len__"):  # their mode says how long; a stream does not
            return
        batches, frozen = len(loader), trainer.num_training_batches
        if trainer.limit_train_batches == 1.0 and trainer.overfit_batches == 0 and batches > frozen:
            raise SelectionLost(
                f"epoch {self._walk.epoch} has {batches} batches, but Lightning took the number of them once, {frozen}, and stops "
                "there. Make lengths constant by num_samples=, or set Trainer(reload_dataloaders_every_n_epochs=1)."
            )

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """An epoch's plan is fixed once it has a batch. Raises `SelectionLost` where Lightning does not walk it."""
        if self._epoch == self._walk.epoch:
            return
        self._epoch, self._delivered = self._walk.epoch, 0
        loaded, self._loaded = self._loaded, None
        if loaded is not None and (self._epoch, self._walk.start) > _begins(loaded):
            where = f"sample {self._walk.start} of epoch {self._epoch}, past sample {_begins(loaded)[1]} of epoch {loaded['epoch']}"
            raise SelectionLost(_OVERRIDDEN.format(f"goes on at {where}"))
        if trainer.overfit_batches == 0:  # which takes samplers away on purpose
            check(trainer.train_dataloader, sampler=self._walk)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count what was trained on, which with workers is less than was drawn."""
        self._delivered += _size(*self._ours(trainer.train_dataloader, batch))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Share and keep the epoch's scores. It is over, also where `limit_train_batches` ended it."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None and not loaded["position"]:  # a whole epoch was to come, and no batch did
            raise SelectionLost(_OVERRIDDEN.format(f"left nothing of epoch {loaded['epoch']}"))
        self._over = True
        self._keep()

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint: the walk, and the commit that it needs."""
        commit = self._keep()
        return {"walk": self._state(), "commit": commit}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._loaded = state["walk"]
        self.sampler.load_state_dict(state["walk"])

    def _state(self) -> dict[str, Any]:
        """Where Lightning goes on: after an epoch's last batch it begins the next, but finishes a validation of this one first."""
        walk, progress = self._walk, self._progress
        if self._over:
            return walk.state_after()
        if self._epoch != walk.epoch:  # no batch of the epoch was trained on
            return self.sampler.state_dict(delivered=self.sampler.start)
        if progress is not None and progress.is_last_batch:  # of a limited epoch, too
            training = progress.current.completed < progress.current.processed
            return walk.state_after() if training else walk.state_of(walk.walking, len(walk))
        return self.sampler.state_dict(delivered=self.sampler.start + self._delivered)

    def _ours(self, loader: Any, batch: Any) -> tuple[Any, Any]:
        """The loader that our sampler is in, among several, and its part of the batch."""
        while (inside := several(loader)) is not None:
            at = next((i for i, part in enumerate(inside) if any(link is self._walk for link in chain(part))), None)
            if at is None:
                break
            loader, batch = inside[at], list(batch.values())[at] if isinstance(batch, Mapping) else batch[at]
        return loader, batch

    def _keep(self) -> int:
        store = self._walk.store
        if store.session.journal is not None:
            sync(store, self.sampler)
        return store.commit()


def _begins(walk: dict[str, Any]) -> tuple[int, int]:
    """The epoch and the position of the first batch that comes after a state."""
    ended = walk["position"] and walk["position"] == walk["length"]
    return (walk["epoch"] + 1, 0) if ended else (walk["epoch"], walk["position"])


def _size(loader: Any, batch: Any) -> int:
    """The samples of a batch: by its rows, or, where it was made into something else, as many as the loader gives."""
    rows = batch[0] if isinstance(batch, (tuple, list)) and batch else None
    key = getattr(getattr(loader, "dataset", None), "key", None)
    if key is not None and isinstance(batch, Mapping):
        rows = batch.get(key)
    if rows is not None and hasattr(rows, "__len__"):
        return len(rows)
    return int(getattr(loader.batch_sampler, "batch_size", None) or loader.batch_size)
