"""Learning to reweight: weight each training sample by how well its gradient agrees with a small clean set's."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.torch.data.batches import batch_size
from adaptive_sampler.torch.data.rows import row_key, split
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

# float16 gradients of a mean loss underflow below 6e-8; a power of two is taken out again without rounding.
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

    u_i = ⟨∇ℓ_i, ∇L_clean⟩, w̃ = max(u, 0), w = w̃ / (Σw̃ + 1[Σw̃ = 0]). The paper takes a look-ahead step weighted by ε
    and differentiates the clean loss by ε at 0; u is that derivative up to the step size, which the normalisation
    cancels. Both passes run in the mode the model is in: in training mode batch norm normalises the clean batch by its
    own statistics, and the running statistics are not touched. The training pass draws the dropout masks that the
    caller's next forward pass will draw, the clean pass draws others.

    Args:
        model: any module. A DistributedDataParallel model averages the clean gradient over its ranks, so that every
            rank must call this at the same step; the weights are normalised within each rank's own batch.
        inputs: (batch, …), as for `alignment`.
        labels: whatever `loss_fn` takes.
        clean_inputs: (clean, …), from data that is trusted and balanced.
        clean_labels: as `labels`; the clean loss is the mean over this batch.
        loss_fn: (model output, labels) -> (batch,).
        group: average the clean gradient over this process group, for models that are not wrapped.

    Returns:
        (batch,) ≥ 0, without gradient, in the losses' dtype; sums to 1, or is all zero where no sample agrees.

    Raises:
        InvalidValue: an empty clean batch, no trainable parameters, a module of TorchScript, a dynamically quantised or
            sharded one, a loss that is not per-sample or has kept a parameter by itself, a label beyond the classes, a
            model that writes in a parameter, or a gradient that is not finite.

    Source:
        Ren, Zeng, Yang, Urtasun 2018, Learning to Reweight Examples for Robust Deep Learning, section 3.3,
        equations 11 to 13 and algorithm 1.
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
    """∇L_clean by name; zero where the clean loss does not depend on a parameter."""
    if batch_size(inputs) == 0:
        raise InvalidValue("the clean batch is empty: L2RW needs at least one trusted sample; give some")
    theta = leaves(params)
    loss = losses(model, theta, inputs, labels, loss_fn).mean() * _HALF_SCALE
    return {name: g / _HALF_SCALE for name, g in gradients(loss, theta).items()}


def _averaged(gradient: Params, group: dist.ProcessGroup | None) -> Params:
    """The mean over ranks, as a unit vector: the weights do not depend on its length, and long tangents overflow."""
    vector = flat(gradient)
    if group is not None:
        dist.all_reduce(vector, group=group)  # a sum does: only the direction matters
    # after the reduction, so that a bad batch on one rank raises on every rank rather than leaving them waiting
    length = check_finite(torch.linalg.vector_norm(vector), "the length of ∇L_clean")
    return shaped(vector / torch.where(length == 0, torch.ones_like(length), length), gradient)


class L2RWLoss:
    """The training loss with L2RW's weights: Σ w_i ℓ_i, where w agrees with a clean batch drawn at each step.

    ```python
    criterion = L2RWLoss(model, clean_loader, store)
    for inputs, labels in criterion.watch(loader):
        loss = criterion(inputs, labels)      # runs the model: do not run it again
        loss.backward()
    ```

    Which to use: the loss follows the paper, weights each batch by the model of that very step, and pays about two
    plain steps for it. `L2RWSampler` draws the next epochs by the weights that the store has kept, at no cost in the
    step, but they are as old as the last visit. Both at once weight a sample twice (drawn by w, then weighted by w),
    unless the sampler is `unbiased=True`, whose loss weights 1/(n·p) take the draw out again.

    The weights of a batch may rest on one or two samples whose loss is high, so steps vary more in length than without
    them: take a lower learning rate, or clip gradients (`benchmarks/l2rw.py` shows a run that diverged).

    No `.grad` is read or written, so gradient accumulation goes on as without it: weights are normalised within each
    micro-batch, and dividing the loss by the number of micro-batches is the caller's, as ever. Under autocast both
    passes run in autocast's dtype.
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
        """Nothing is computed yet.

        Args:
            model: the module that is trained, wrapped as it is trained.
            clean_loader: batches (inputs, labels), or dicts with "labels", of trusted and balanced data, with or without
                rows; begun again when it ends, moved to the model's device. Any iterable that can be iterated again.
            store: its `L2RW` score gets weight × batch size, so that 1 is what an unweighted sample counts and a ragged
                last batch is not drawn more often. Rows come from `watch` or from `rows=`.
            loss_fn: (model output, labels) -> (batch,).
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
        # the hook's rows, clock and asynchronous copies serve here as they do for any other loss
        self._hook = None if store is None else LossHook(nn.Identity(), store)

    def __call__(self, inputs: Any, labels: Any, *, rows: Any = None) -> Tensor:
        """Run the model once more, with gradients, and give the weighted loss.

        Args:
            inputs: (batch, …), as for `l2rw_weights`.
            labels: whatever the loss takes.
            rows: (batch,) int64 rows of the store, on any device; not needed inside `watch`.

        Returns:
            Σ w_i ℓ_i, a scalar with gradient.
        """
        weights = self.weights(inputs, labels, rows=rows)
        arguments = inputs if isinstance(inputs, tuple | list) else (inputs,)
        out = self.model(**inputs) if isinstance(inputs, Mapping) else self.model(*arguments)
        return (weights * self.loss_fn(out, labels)).sum()

    def weights(self, inputs: Any, labels: Any, *, rows: Any = None) -> Tensor:
        """(batch,) weights, kept in the store: for a loop that runs the model itself."""
        own = None if self._hook is None else self._hook._adaptive_sampler
        taken = None if own is None else own.pending.take(rows, batch_size(inputs))
        _, clean_inputs, clean_labels = next(self._clean)
        found = l2rw_weights(
            self.model, inputs, labels, clean_inputs, clean_labels, loss_fn=self.loss_fn, group=self._group
        )
        if own is not None and taken is not None and taken[1] is not False:
            own.recorder.send_fresh(*taken, own.recorder.store.session.measure(l2rw=found * len(found)), None)
        return found

    def watch(self, loader: Any) -> Iterator[Any]:
        """The samples of a loader over an IndexedDataset; their rows are kept for the one call that follows."""
        if self._hook is not None:
            yield from self._hook.watch(loader)
            return
        for _, sample in split(loader, row_key(loader)):
            yield sample


def _endless(loader: Iterable[Any], model: nn.Module) -> Iterator[tuple[Any, Any, Any]]:
    """The loader's batches, over and over."""
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
