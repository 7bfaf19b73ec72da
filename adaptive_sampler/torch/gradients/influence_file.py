"""Keeps the progress of an influence computation, in memory and, if wanted, in a file that it can be resumed from."""

import contextlib
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adaptive_sampler.disk import whole_file
from adaptive_sampler.errors import ResumeError
from adaptive_sampler.torch.gradients.functional import Params, flat
from adaptive_sampler.torch.gradients.solvers import CGState

_SECONDS_BETWEEN_SAVES = 30.0
_CG = ("cg_solution", "cg_residual", "cg_direction")


class InfluenceFile:
    """The progress of an influence computation: the solver's last step, its solution, and the products of finished batches."""

    def __init__(self, path: Path | None, like: Tensor, identity: str) -> None:
        """Nothing is done yet.

        `path`: the file, None to keep everything in memory. `like`: a (parameters,) tensor with the solution's dtype
        and device. `identity`: a digest of model and settings, by which the file of another computation is recognised.
        """
        self._path, self._like, self._identity = path, like, identity
        self._step: CGState | None = None
        self._products = np.empty(0, str(like.dtype).removeprefix("torch."))
        self._saved = time.monotonic()
        self.solution: Tensor | None = None  # (parameters,) s, once solved

    @classmethod
    def begin(cls, path: Path | None, params: Params, settings: list[Any]) -> "InfluenceFile":
        """The progress that `path` holds; none if there is no such file, or no `path`.

        Raises `ResumeError` for the file of another model (its `params`) or of other `settings`.
        """
        like = flat(params)
        identity = hashlib.sha256(repr(settings).encode())
        if path is not None:
            identity.update(like.cpu().numpy().tobytes())
        made = cls(path, like, identity.hexdigest())
        if path is not None and path.exists():
            made._load(path)
        return made

    def _load(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as held:
            if str(held["identity"]) != self._identity:
                raise ResumeError(
                    f"{path} is of another model or of other settings: an influence resumes only from its own file; "
                    "give the settings it was begun with, another checkpoint=, or delete it"
                )
            self._products = held["products"]
            if "solution" in held:
                self.solution = self._tensor(held["solution"])
            elif "iteration" in held:
                solution, residual, direction = (self._tensor(held[name]) for name in _CG)
                self._step = CGState(solution, residual, direction, int(held["iteration"]))

    def _tensor(self, values: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(values).to(self._like)

    def cg_state(self, target: Tensor) -> CGState:
        """The state from which conjugate gradients go on; their start if no step was kept."""
        return CGState.start(target) if self._step is None else self._step

    def keep_step(self, state: CGState) -> None:
        """Remember the solver's last step; the file is written now and then."""
        self._step = state
        self._save_sometimes()

    def has(self, rows: np.ndarray[Any, Any]) -> bool:
        """Whether the products of all these rows are known."""
        return bool(rows.max() < len(self._products) and not np.isnan(self._products[rows]).any())

    def keep(self, rows: np.ndarray[Any, Any], products: Tensor) -> None:
        """Remember a batch's products ⟨s, ∇ℓ_i⟩, (batch,), at its `rows`; the file is written now and then."""
        self._grow(int(rows.max()) + 1)
        self._products[rows] = products.cpu().numpy()
        self._save_sometimes()

    def products(self, length: int) -> Tensor:
        """The products by row, (max(length, largest row + 1),); NaN for rows that are not done."""
        self._grow(length)
        return torch.from_numpy(self._products.copy())

    def _grow(self, length: int) -> None:
        more = length - len(self._products)
        if more > 0:
            self._products = np.pad(self._products, (0, more), constant_values=np.nan)

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """A context that writes the file when it is left, above all by an error or an interrupt."""
        try:
            yield
        finally:
            self.save()

    def _save_sometimes(self) -> None:
        if time.monotonic() - self._saved > _SECONDS_BETWEEN_SAVES:
            self.save()

    def save(self) -> None:
        """Write the file; it keeps its old content until the new content is complete."""
        if self._path is None:
            return
        arrays: dict[str, Any] = {"identity": self._identity, "products": self._products}
        if self.solution is not None:
            arrays["solution"] = self.solution.cpu().numpy()
        elif self._step is not None:
            arrays |= {name: t.cpu().numpy() for name, t in zip(_CG, self._step[:3], strict=True)}
            arrays["iteration"] = self._step.iteration
        with whole_file(self._path) as file:
            np.savez(file, **arrays)
        self._saved = time.monotonic()
