"""Learning to reweight: weights each training sample by how well its gradient agrees with that of a small clean set."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.torch.data.batches import batch_size
from adaptive_sampler.torch.data.rows import row_key, split
from adaptive_sampler.torch.data.watched import Watched
from adaptive_sampler.torch.gradients.alignment import along
from adaptive_sampler.torch.gradients.as_found import as_found
from adaptive_sampler.torch.gradients.functional import (
    LossFn,
    Params,
    check_finite,
    cross_entropy,
    flat,
    gradients,
    leaves,
    losses,
    shaped,
    trainable,
    unwrapped,
)
from adaptive_sampler.torch.gradients.randomness import draw_elsewhere, generator_states, restore
from adaptive_sampler.torch.gradients.samples import device_of, samples
from adaptive_sampler.torch.hook.hook import LossHook

# The clean loss is multiplied by this, because float16 gradients underflow below 6e-8. It is a power of two, so
# dividing by it again does not round.
_HALF_SCALE = 2.0**10


def l2rw_weights(
    model: nn.Module,
    inputs: Any,
    labels: Any,
    clean_inputs: Any,
    clean_labels: Any,
    *,
    loss_fn: LossFn = cross_entropy,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """L2RW's weights of a training batch: one backward on the clean batch, one JVP over the training batch.

    u_i = ⟨∇ℓ_i, ∇L_clean⟩, w̃ = max(u, 0), w = w̃ / (Σw̃ + 1[Σw̃ = 0]). The paper takes a look-ahead step with the
    weights ε and differentiates the clean loss with respect to ε at 0; u is minus that derivative, up to the step size,
    which the normalisation cancels.

    Both passes run in the mode the model is in: in training mode, batch norm normalises the clean batch by its own
    statistics, and the running statistics are not changed. The training pass draws the dropout masks that the caller's
    next forward pass will draw; the clean pass draws others.

    Args:
        model: any module. For a DistributedDataParallel model the clean gradient is averaged over its ranks, so every
            rank must call this at the same step; the weights are normalised within each rank's own batch.
        inputs: (batch, …), as for `alignment`.
        labels: whatever `loss_fn` takes.
        clean_inputs: (clean, …), from data that is trusted and balanced.
        clean_labels: as `labels`; the clean loss is the mean over this batch.
        loss_fn: (model output, labels) -> (batch,) losses.
        group: average the clean gradient over this process group, for models that are not wrapped.

    Returns:
        (batch,) ≥ 0, without gradient, in the losses' dtype; sums to 1, or is all zero if no sample agrees with the
        clean batch.

    Raises:
        InvalidValue: the clean batch is empty; the model has no trainable parameters, is or holds a module of
            TorchScript or a dynamically quantised one, or is sharded; the loss is not per-sample, or uses a parameter
            by a reference of its own; a label is beyond the classes; the model writes to a parameter; or a gradient is
            not finite.

    Source:
        Ren, Zeng, Yang, Urtasun 2018, Learning to Reweight Examples for Robust Deep Learning, section 3.3, equations 11
        to 13 and algorithm 1.
    """
    if isinstance(model, nn.parallel.DistributedDataParallel) and group is None:
        group = model.process_group
    model = unwrapped(model)
    params = trainable(model)
    with as_found(model):
        before = generator_states(model)
        draw_elsewhere(model)
        toward = _averaged(_clean_gradient(model, params, clean_inputs, clean_labels, loss_fn), group)
        restore(before)
        agreement = along(model, params, toward, inputs, labels, loss_fn)
    kept = check_finite(agreement, "⟨∇ℓ_i, ∇L_clean⟩").clamp(min=0)
    total = kept.sum()
    return kept / torch.where(total == 0, torch.ones_like(total), total)


def _clean_gradient(model: nn.Module, params: Params, inputs: Any, labels: Any, loss_fn: LossFn) -> Params:
    """∇L_clean by name; zero if the clean loss does not depend on a parameter. Raises `InvalidValue` for an empty batch."""
    if batch_size(inputs) == 0:
        raise InvalidValue("the clean batch is empty: L2RW needs at least one trusted sample; give some")
    theta = leaves(params)
    loss = losses(model, theta, inputs, labels, loss_fn).mean() * _HALF_SCALE
    return {name: g / _HALF_SCALE for name, g in gradients(loss, theta).items()}


def _averaged(gradient: Params, group: dist.ProcessGroup | None) -> Params:
    """The mean over ranks, as a unit vector: the weights do not depend on its length, and a long tangent could overflow."""
    vector = flat(gradient)
    if group is not None:
        dist.all_reduce(vector, group=group)  # the sum will do, because only the direction matters
    # after the reduction, so that a bad batch on one rank raises on every rank rather than leaving them waiting
    length = check_finite(torch.linalg.vector_norm(vector), "the length of ∇L_clean")
    return shaped(vector / torch.where(length == 0, torch.ones_like(length), length), gradient)


class L2RWLoss:
    """The training loss with L2RW's weights: Σ w_i ℓ_i, where w says how well a sample agrees with a clean batch.

    A new clean batch is drawn at each step.

    ```python
    criterion = L2RWLoss(model, clean_loader, store)
    for inputs, labels in criterion.watch(loader):
        loss = criterion(inputs, labels)      # runs the model: do not run it again
        loss.backward()
    ```

    Which to use: `L2RWLoss` follows the paper. It weights each batch by the model of that very step, and the weights
    cost as much as one and a half to two plain steps. `L2RWSampler` draws the rows of later epochs by the weights that
    the store has kept. It costs nothing in the step, but its weights are as old as each row's last visit. Both at once
    weight a sample twice (it is drawn by w, then weighted by w), unless the sampler has `unbiased=True` and you
    multiply each sample's loss by the sampler's loss weight 1/(n·p), which undoes the draw. `L2RWLoss` does not do that
    itself.

    The weights of a batch may rest on one or two samples with a high loss, so steps vary more in length than without
    weights: use a lower learning rate, or clip gradients (`benchmarks/l2rw.py` shows a run that diverged).

    No `.grad` is read or written, so gradient accumulation works as usual: weights are normalised within each
    micro-batch, and it is the caller who divides the loss by the number of micro-batches. Under autocast both passes
    run in autocast's dtype.
    """

    def __init__(
        self,
        model: nn.Module,
        clean_loader: Iterable[Any],
        store: ScoreStore | None = None,
        *,
        loss_fn: LossFn = cross_entropy,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        """Keep the arguments; nothing is computed yet.

        Args:
            model: the module that is trained, wrapped as it is trained.
            clean_loader: batches (inputs, labels), or dicts with "labels", of trusted and balanced data, with or
                without rows. Any iterable that can be iterated again; it is begun again when it ends. Batches are moved
                to the model's device.
            store: its `L2RW` score gets weight × batch size, so that an unweighted sample counts 1, and the samples of
                a short last batch do not count more than others. Rows come from `watch` or from `rows=`.
            loss_fn: (model output, labels) -> (batch,) losses.
            group: as for `l2rw_weights`.

        Raises:
            InvalidValue: the store has no L2RW score.
        """
        if store is not None and not store.session.takes("l2rw"):
            raise InvalidValue(
                f"the store's scores {list(store.names)} take no L2RW weight: create it with scoring.L2RW(), or store.add it"
            )
        self.model, self.store, self.loss_fn = model, store, loss_fn
        self._clean = _endless(clean_loader, model)
        self._group = group
        # a hook is used here for its rows, clock and asynchronous copies; its criterion is never called
        self._hook = None if store is None else LossHook(nn.Identity(), store)

    def __call__(self, inputs: Any, labels: Any, *, rows: Any = None) -> Tensor:
        """Compute the batch's weights, run the model with gradients, and return the weighted loss.

        Args:
            inputs: (batch, …), as for `l2rw_weights`.
            labels: whatever the loss takes.
            rows: (batch,) int64 rows of the store, on any device; not needed inside `watch`.

        Returns:
            Σ w_i ℓ_i, a scalar with gradient.

        Raises:
            InvalidValue: as for `l2rw_weights`; or it is in doubt which rows these samples are.
        """
        weights = self.weights(inputs, labels, rows=rows)
        arguments = inputs if isinstance(inputs, tuple | list) else (inputs,)
        out = self.model(**inputs) if isinstance(inputs, Mapping) else self.model(*arguments)
        return (weights * self.loss_fn(out, labels)).sum()

    def weights(self, inputs: Any, labels: Any, *, rows: Any = None) -> Tensor:
        """The batch's weights, (batch,), which are also kept in the store: for a loop that runs the model itself."""
        own = None if self._hook is None else self._hook._adaptive_sampler
        taken = None if own is None else own.pending.take(rows, batch_size(inputs))
        _, clean_inputs, clean_labels = next(self._clean)
        found = l2rw_weights(
            self.model, inputs, labels, clean_inputs, clean_labels, loss_fn=self.loss_fn, group=self._group
        )
        if own is not None and taken is not None and taken[1] is not False:
            own.recorder.send_fresh(*taken, own.recorder.store.session.measure(l2rw=found * len(found)), None)
        return found

    def watch(self, loader: Any) -> Watched:
        """The samples of a loader over an IndexedDataset, as `LossHook.watch` gives them; their rows are kept for one call."""
        if self._hook is not None:
            return self._hook.watch(loader)
        key = row_key(loader)
        return Watched(loader, lambda: (sample for _, sample in split(loader, key)))


def _endless(loader: Iterable[Any], model: nn.Module) -> Iterator[tuple[Any, Any, Any]]:
    """The loader's batches, again and again. Raises `InvalidValue` if it yields none."""
    while True:
        empty = True
        for batch in samples(loader, device_of(model)):
            empty = False
            yield batch
        if empty:
            raise InvalidValue(
                "clean_loader yields no batch: L2RW needs at least one trusted sample, and a loader that can be "
                "iterated again (a generator ends for good; drop_last=True drops a small clean set)"
            )
