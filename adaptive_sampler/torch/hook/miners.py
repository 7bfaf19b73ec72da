"""Miners: which samples of a batch are worth a backward pass, by their losses."""

from collections.abc import Mapping
from reprlib import repr as short
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from adaptive_sampler.checks import is_number, is_whole, whole_number
from adaptive_sampler.errors import InvalidValue, ResumeError
from adaptive_sampler.seeds import Purpose, key
from adaptive_sampler.selection.base import cut


@runtime_checkable
class Miner(Protocol):
    """What `LossHook(..., mine=)` takes: one method, which chooses samples of a batch by their losses."""

    def choose(self, losses: Tensor) -> Tensor:
        """The positions of the chosen samples in the batch, (k,) int64, ascending, each once, at least one of a batch.

        `losses` (batch,) float, without gradient, on any device; −inf for a sample that the criterion ignores. The hook calls it
        once for each batch, and checks what it returns, for which it waits for the device.
        """


class OHEM:
    """Online hard example mining: the samples with the highest losses of each batch (Shrivastava et al. 2016, section 4).

    `keep`: the share f of the batch, a float in (0, 1], which gives floor(f·batch + ½) samples, as `Prune` rounds, but at least
    one; or their number, an int, of which a smaller batch has fewer, as in the paper, whose number is fixed. Of equal losses the
    first in the batch are taken. A loss that is NaN or inf counts as the highest, so that a training that diverges shows it. Raises
    `InvalidValue` for another `keep`.
    """

    def __init__(self, keep: float) -> None:
        if not (is_whole(keep, 1) or (is_number(keep) and not isinstance(keep, int | np.integer) and 0 < keep <= 1)):
            raise InvalidValue(
                f"keep={keep!r}: a share in (0, 1] of the batch, as a float, or a number of samples, 1 or more."
            )
        self.keep = keep

    def choose(self, losses: Tensor) -> Tensor:
        """As `Miner.choose`, without waiting for the device."""
        return _hardest(losses, self._number(len(losses)))

    def _number(self, batch: int) -> int:
        if isinstance(self.keep, int | np.integer):
            return min(int(self.keep), batch)
        return cut({"keep": self.keep}, batch, least=min(1, batch))

    def __repr__(self) -> str:
        return f"OHEM({self.keep})"


class SelectiveBackprop:
    """Selective backprop: a sample is chosen with probability F(loss)^beta (Jiang et al. 2019, section 3.1).

    F is the share of the last `history` losses, those of the batch included, that are not above this one: the hardest are always
    chosen. `beta`, 0 or more, is how selective that is; about 1 / (1 + beta) of all samples are chosen. A loss that is NaN or inf
    is chosen and no part of the history; where chance chooses none of a batch, the hardest is. Draws follow from `seed`, the rank
    and the number of the batch. `choose` waits for the device once. Raises `InvalidValue` for other arguments.

    `state_dict` is what a resume needs; on ranks each has a history of its own, so save each rank's.
    """

    def __init__(self, beta: float = 1.0, *, history: int = 1024, seed: int = 0) -> None:
        if not is_number(beta) or beta < 0:
            raise InvalidValue(f"beta={beta!r}: a number, 0 or more. With 0 all samples are chosen.")
        self.beta = float(beta)
        self.history = whole_number("history", history, 1, what="the number of losses that are remembered")
        self.seed = whole_number("seed", seed, 0)
        self._losses = np.empty(0, np.float32)  # the last `history`, the newest last
        self._batches = 0

    def choose(self, losses: Tensor) -> Tensor:
        """As `Miner.choose`. Counts the batch, and remembers its losses."""
        values = losses.detach().to("cpu", torch.float32).numpy()
        probability = self.probabilities(values)
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        draws = np.random.default_rng(key(self.seed, self._batches, Purpose.MINING, rank)).random(len(values))
        self._batches += 1
        self._losses = self._with(values)
        chosen = np.flatnonzero(draws < probability)
        return torch.from_numpy(chosen).to(losses.device) if len(chosen) else _hardest(losses, min(1, len(values)))

    def probabilities(self, losses: np.ndarray) -> np.ndarray:
        """With which probability each sample of a batch would be chosen, (batch,) float64; `losses` (batch,) float32."""
        recent = np.sort(self._with(losses))
        share = np.searchsorted(recent, losses, "right") / max(len(recent), 1)
        return np.where(np.isfinite(losses), share**self.beta, ~np.isneginf(losses))

    def _with(self, losses: np.ndarray) -> np.ndarray:
        """The last losses once those of a batch are remembered."""
        return np.concatenate([self._losses, losses[np.isfinite(losses)]])[-self.history :]

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs: numbers and lists of them, for torch.save or JSON."""
        return self._arguments() | {"batches": self._batches, "losses": self._losses.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state. Raises `ResumeError` for that of other arguments, and for what is no state."""
        own = self._arguments()
        if not isinstance(state, Mapping) or not {*own, "batches", "losses"} <= set(state):
            raise ResumeError(f"{short(state)} is no state of {self!r}. Pass what state_dict returned.")
        if told := {name: state[name] for name in own if state[name] != own[name]}:
            raise ResumeError(
                f"the state is of {told}, this is {self!r}: make SelectiveBackprop with the arguments of the training that saved "
                "it."
            )
        try:
            with np.errstate(over="ignore"):
                losses = np.array(state["losses"], np.float32)
        except (TypeError, ValueError):
            losses = np.array([np.nan], np.float32)
        sound = losses.ndim == 1 and len(losses) <= self.history and np.isfinite(losses).all()
        if not is_whole(state["batches"]) or not sound:
            raise ResumeError(
                f"batches={short(state['batches'])} and losses={short(state['losses'])} are no state of {self!r}. Pass what "
                "state_dict returned."
            )
        self._batches, self._losses = int(state["batches"]), losses

    def _arguments(self) -> dict[str, Any]:
        return {"beta": self.beta, "history": self.history, "seed": self.seed}

    def __repr__(self) -> str:
        return f"SelectiveBackprop({self.beta}, history={self.history}, seed={self.seed})"


def _hardest(losses: Tensor, number: int) -> Tensor:
    """The positions of the highest losses, (number,) int64, ascending; NaN counts as inf, and of equal ones the first are taken."""
    ranked = torch.nan_to_num(losses.detach(), nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    order = torch.sort(ranked, descending=True, stable=True).indices
    return torch.sort(order[:number]).values
