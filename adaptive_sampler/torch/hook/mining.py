"""Hard example mining within a batch: the criterion's call is cut down to the samples that a miner chooses by their losses."""

from collections import deque
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.hook.call import Call
from adaptive_sampler.torch.hook.miners import OHEM, Miner, SelectiveBackprop
from adaptive_sampler.torch.hook.observation import valid_samples
from adaptive_sampler.torch.hook.reduction import is_torchs, no_single_loss, per_sample
from adaptive_sampler.torch.hook.side_effects import Looks, SideEffects

_REMEMBERED = 64  # batches whose choice is remembered, because a later call on them must make the same


@dataclass
class Mining:
    """What a hook mines with, and what was chosen of the last batches."""

    miner: Miner
    looks: Looks = field(default_factory=Looks)
    _chosen: deque[tuple[Tensor, Tensor]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def losses(self, criterion: nn.Module, call: Call) -> Tensor:
        """The losses of a call's samples, (batch,) float32 or float64, without gradient; −inf where the criterion ignores one.

        Raises `InvalidValue` for a criterion that has no loss for each sample, or that may not be called twice.
        """
        watch = None if is_torchs(criterion) else SideEffects(criterion, call.input, closely=self.looks.due())
        with torch.no_grad():
            losses = per_sample(criterion, call, None, None, watch).detach()
        moved = None if watch is None else watch.seen()
        if watch is not None and not hasattr(criterion, "reduction"):  # then it was itself called, not its twin
            moved = moved or watch.left_behind()
        if moved is not None:
            raise InvalidValue(
                f"{type(criterion).__name__} {moved} when it is called, and mine= calls it twice, on all samples and on the chosen "
                f"ones. {_YOURSELF}"
            )
        if losses.ndim != 1:
            raise no_single_loss(criterion, losses, ", mine=hook.mine")
        return losses

    def choose(self, criterion: nn.Module, call: Call, losses: Tensor, rows: Tensor, *, rehearsal: bool) -> Tensor:
        """The positions of the samples that are chosen now, (k,) int64; `rows` (batch,) int64.

        A rehearsal leaves the miner as it is. Positions that are chosen in inference mode index what has gradients, too. Raises
        `InvalidValue` if the miner returns anything but positions of the batch.
        """
        valid = valid_samples(call.target, getattr(criterion, "ignore_index", None))
        ranked = losses if losses.dtype is torch.float64 else losses.float()
        if valid is not None:
            ranked = torch.where(valid.to(ranked.device), ranked, -torch.inf)
        miner = deepcopy(self.miner) if rehearsal else self.miner
        chosen = _checked(miner.choose(ranked), miner, call.length).to(losses.device)
        if chosen.is_inference():
            with torch.inference_mode(False):
                chosen = chosen.clone()
        self._chosen.append((rows, chosen))
        return chosen

    def chosen_before(self, rows: Tensor) -> Tensor | None:
        """What was chosen of an earlier call on these rows, (batch,) int64.

        None if there was none that is remembered, or if a later one chose these rows themselves.
        """
        for known, chosen in reversed(self._chosen):
            known = known.to(rows.device)
            if torch.equal(known, rows):
                return chosen
            if torch.isin(rows, known[chosen.to(rows.device)]).all():
                return None
        return None


def part_of(criterion: nn.Module, call: Call, chosen: Tensor, losses: Tensor | None = None) -> Call:
    """The call on the chosen samples alone. Raises `InvalidValue` if an argument cannot be cut down to them.

    `losses` (batch,): of the whole call, with which those of the part are compared if it has further arguments, which may
    have the batch's length by chance.
    """
    if type(criterion) is nn.CTCLoss:
        raise InvalidValue(
            "CTCLoss takes (time, batch, classes), which is not cut down to the chosen samples. Choose them, and run the model on "
            "these: chosen = hook.select(log_probs, targets, input_lengths, target_lengths)."
        )
    part = call.part(chosen)
    if losses is not None and call.further():
        with torch.no_grad():
            alone = per_sample(criterion, part, None, None, None)
        if not torch.allclose(alone, losses[chosen].to(alone.dtype), rtol=1e-2, atol=1e-4, equal_nan=True):
            raise InvalidValue(
                f"{type(criterion).__name__} gives the chosen samples other losses alone than in their batch: an argument has the "
                f"batch's length and is not of its samples, or a sample's loss depends on the others. {_YOURSELF}"
            )
    return part


def check_miner(mine: Any) -> None:
    """Raise `InvalidValue` unless `mine` is None or a miner."""
    if mine is not None and (isinstance(mine, type) or not isinstance(mine, Miner)):
        raise InvalidValue(
            f"mine={mine!r}: a miner such as OHEM(0.25) or SelectiveBackprop(), which has choose(losses)."
        )


def refuse_elsewhere(mine: Any) -> None:
    """Raise `InvalidValue` if a hook mines, and the loss that trains is computed elsewhere."""
    if mine is not None:
        raise InvalidValue(
            f"mine={mine!r} chooses among the losses of hook(input, target), and this training computes its loss elsewhere: "
            "nothing would be mined. Train on hook(input, target), or set hook.mine = None."
        )


def _checked(chosen: Any, miner: Miner, length: int) -> Tensor:
    """What a miner chose of `length` samples. Raises `InvalidValue` for anything but positions, at least one of a batch."""
    if not isinstance(chosen, Tensor) or chosen.dtype is not torch.int64 or chosen.ndim != 1:
        raise _no_positions(chosen, miner, length)
    if length and not len(chosen):
        raise InvalidValue(f"{miner!r} chose none of {length} samples, of which there is no mean: choose at least one.")
    if type(miner) not in (OHEM, SelectiveBackprop):  # ours keep the rule, and looking would wait for the device
        places = chosen.tolist()
        if places != sorted({*places} & {*range(length)}):
            raise _no_positions(chosen, miner, length)
    return chosen


def _no_positions(chosen: Any, miner: Miner, length: int) -> InvalidValue:
    return InvalidValue(
        f"{miner!r} chose {chosen!r} of {length} samples: positions in the batch are needed, (k,) int64, ascending, each once."
    )


_YOURSELF = (
    "Choose in the loop: a hook without mine=, its criterion's reduction='none'; losses = hook(input, target); "
    "losses[miner.choose(losses.detach())].mean().backward()."
)
