"""Lightning: a callback that saves the walk with every checkpoint and restores it before the first `iter`."""

from typing import Any

from adaptive_sampler.errors import SelectionLost
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.torch.check import check
from adaptive_sampler.torch.distributed import DistributedAdaptiveSampler
from adaptive_sampler.torch.merge import sync

try:
    from lightning.pytorch import Callback
except ImportError as error:
    raise ImportError('adaptive_sampler.torch.lightning needs Lightning: pip install "lightning>=2.2"') from error


class SamplerCallback(Callback):
    """Keeps the scores and the sampler's position in step with Lightning's checkpoints.

    At every checkpoint, and at each epoch's end, the store is synced (where it is distributed) and committed. Resume with
    `Trainer.fit(..., ckpt_path=...)` and the store opened at the checkpoint's commit, `SamplerCallback.commit_of(path)`.
    Lightning draws before it calls `set_epoch` when a loader has workers: only a state restored this early is right.
    """

    def __init__(self, sampler: AdaptiveSampler | DistributedAdaptiveSampler) -> None:
        self.sampler = sampler
        self._walk = sampler.sampler if isinstance(sampler, DistributedAdaptiveSampler) else sampler
        self._steps = 0  # batches trained on since the epoch was begun or resumed; −1 once it is over
        self._size = 0

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

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """A new epoch has no steps yet. Raises `SelectionLost` where Lightning would leave the end of its plan out."""
        self._steps = 0
        batches, frozen = len(trainer.train_dataloader), trainer.num_training_batches
        if trainer.limit_train_batches == 1.0 and trainer.overfit_batches == 0 and batches > frozen:
            raise SelectionLost(
                f"epoch {self._walk.epoch} has {batches} batches, but Lightning took the number of them once, {frozen}, and stops "
                "there. Make lengths constant by num_samples=, or set Trainer(reload_dataloaders_every_n_epochs=1)."
            )

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """An epoch's plan is fixed once it has a batch. Raises `SelectionLost` where Lightning does not walk it."""
        if self._steps == 0 and trainer.overfit_batches == 0:  # which takes samplers away on purpose
            check(trainer.train_dataloader)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count what was trained on, which with workers is less than was drawn."""
        self._steps += 1
        self._size = _batch_size(trainer.train_dataloader)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Share and keep the epoch's scores. It is over, also where `limit_train_batches` ended it."""
        self._steps = -1
        self._keep()

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint: the walk, and the commit that it needs."""
        commit = self._keep()
        if self._steps < 0:
            return {"walk": self._walk.state_of(None, 0), "commit": commit}
        delivered = self.sampler.start + self._steps * self._size
        if self._walk is self.sampler:
            delivered = min(delivered, self._walk.drawn)  # the last batch may be short
        return {"walk": self.sampler.state_dict(delivered=delivered), "commit": commit}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.sampler.load_state_dict(state["walk"])

    def _keep(self) -> int:
        store = self._walk.store
        if store.journal is not None:
            sync(store, self.sampler)
        return store.commit()


def _batch_size(loader: Any) -> int:
    """Samples that one rank takes at a step."""
    return int(getattr(loader.batch_sampler, "batch_size", None) or loader.batch_size)
