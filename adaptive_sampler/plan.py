"""A plan: which rows one epoch visits, how often, and with which loss weights. It never changes; the store keeps it."""

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from adaptive_sampler.arrays import as_rows
from adaptive_sampler.checks import is_whole
from adaptive_sampler.disk import Bytes, checksum
from adaptive_sampler.errors import MALFORMED, RowError, StoreDamaged
from adaptive_sampler.kernels import bits as kernels
from adaptive_sampler.markup import card, share

PLAN_ID = re.compile("[0-9a-f]{16}")
FILES = ("plan.json", "kept.npy", "counts.npy", "weights.npy")  # of a saved plan, which need not have all
MOST_ROWS, MOST_SEED = 1 << 48, 1 << 64
MOST_VISITS = (1 << 32) - 1  # of a row, by one plan


class MadeFrom(NamedTuple):
    """The state of the scores that a plan was made from: the last commit's number, and the count of updates since."""

    commit: int
    updates: int


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """What one epoch visits, as a policy chose it from one state of the scores. Compare plans by `id`.

    `n`: rows of the store. `kept`: one bit per row, 1 if the row is visited, packed with bitorder="little" into
    (ceil(n / 8),) uint8; None if every row is visited. `counts`: how often each visited row is visited, (visited rows,)
    unsigned; None if once each. `weights`: the loss weight of each visited row, (visited rows,) float32; None if all are 1.
    `policy` (as data), `seed`, `epoch` and `made_from` say how the plan was made. The plan makes its arrays read-only.
    """

    n: int
    policy: Mapping[str, Any]
    seed: int
    epoch: int
    made_from: MadeFrom
    kept: np.ndarray | None = None
    counts: np.ndarray | None = None
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.counts is not None:
            small = np.min_scalar_type(int(self.counts.max(initial=1)))
            object.__setattr__(self, "counts", self.counts.astype(small, copy=False))
        for array in (self.kept, self.counts, self.weights):
            if array is not None:
                array.setflags(write=False)

    def __repr__(self) -> str:
        visits = f"{self.num_rows} of {self.n} rows, {self.num_samples} samples"
        return f"Plan({self.id}: {visits}, epoch {self.epoch}, {dict(self.policy)}, {self.made_from})"

    def _repr_html_(self) -> str:
        return card("Plan", facts(self))

    @cached_property
    def id(self) -> str:
        """16 hex digits, a digest of everything in the plan: equal plans have equal ids on every machine."""
        content = {name: checksum([array]) for name, array in self._arrays().items()}
        return hashlib.blake2b(json.dumps([self._about(), content], sort_keys=True).encode(), digest_size=8).hexdigest()

    @cached_property
    def num_rows(self) -> int:
        """How many different rows the plan visits."""
        return self.n if self.kept is None else kernels.count(self.kept)

    @cached_property
    def num_samples(self) -> int:
        """How many samples an epoch of this plan has: the sum of how often each row is visited."""
        return self.num_rows if self.counts is None else int(self.counts.sum(dtype=np.int64))

    @property
    def rows(self) -> np.ndarray:
        """The rows that the plan visits, (num_rows,) int64, ascending."""
        return np.arange(self.n) if self.kept is None else kernels.rows(self.kept, self.n)

    @property
    def repeats(self) -> np.ndarray:
        """How often each row of the store is visited, (n,) uint32; 0 for a row that is not."""
        return self._dense(self.counts, np.uint32)

    @property
    def loss_weights(self) -> np.ndarray:
        """The loss weight of each row of the store, (n,) float32; 0 for a row that is not visited."""
        return self._dense(self.weights, np.float32)

    @property
    def weighted(self) -> bool:
        """Whether any loss weight differs from 1."""
        return self.weights is not None

    def indices(self) -> np.ndarray:
        """The row of every visit, (num_samples,) int64, ascending: a row that is visited k times is listed k times."""
        return self.rows if self.counts is None else np.repeat(self.rows, self.counts)

    def part(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The visited rows among rows `start` … `stop` − 1.

        Returns the rows, (m,) int64 ascending, how often each is visited, (m,) int64, and its loss weight, (m,) float32.
        """
        if self.kept is None:
            rows = np.arange(start, stop)
        else:
            first = start // 8 * 8
            bits = np.unpackbits(self.kept[start // 8 : -(-stop // 8)], bitorder="little")
            bits[: start - first] = 0
            rows = np.flatnonzero(bits[: stop - first]) + first
        return rows, self.repeats_of(rows), self.loss_weights_of(rows)

    def loss_weights_of(self, rows: Any) -> np.ndarray:
        """The loss weights of `rows`, (batch,) integers, as (batch,) float32.

        Raises `RowError` for a row that the plan does not visit, and `InvalidValue` for what are no row numbers.
        """
        rows = as_rows(rows, self.n)
        weights = self.weights_or_none(rows)
        return np.ones(len(rows), np.float32) if weights is None else weights

    def weights_or_none(self, rows: Any) -> np.ndarray | None:
        """As `loss_weights_of`, but None if the plan weighs no row: no array is made then. For loops, which ask at every step."""
        rows = as_rows(rows, self.n)
        outside = kernels.first_outside(self.kept, self.n, rows)
        if outside >= 0:
            raise RowError(
                f"row {rows[outside]} is not in plan {self.id} of epoch {self.epoch}: only planned rows have loss "
                "weights. Ask while the sampler is on the epoch that delivered the row."
            )
        if self.weights is None:
            return None
        return self.weights[rows if self.kept is None else self._index.rank(rows)]

    def repeats_of(self, rows: Any) -> np.ndarray:
        """How often each of `rows`, (batch,) integers, is visited, as (batch,) int64; 0 for a row that is not.

        Raises `InvalidValue` for what are no row numbers.
        """
        rows = as_rows(rows, self.n)
        inside = (rows >= 0) & (rows < self.n)
        if self.kept is not None:
            inside[inside] = kernels.test(self.kept, rows[inside])
        times: np.ndarray = inside.astype(np.int64)
        if self.counts is not None:
            times[inside] = self.counts[rows[inside] if self.kept is None else self._index.rank(rows[inside])]
        return times

    @cached_property
    def _index(self) -> kernels.Index:
        assert self.kept is not None
        return kernels.Index(self.kept, self.n)

    def _dense(self, values: np.ndarray | None, dtype: Any) -> np.ndarray:
        dense: np.ndarray = np.zeros(self.n, dtype)
        dense[self.rows if self.kept is not None else slice(None)] = 1 if values is None else values
        return dense

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {"kept": self.kept, "counts": self.counts, "weights": self.weights}
        return {name: array for name, array in arrays.items() if array is not None}

    def _about(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "policy": dict(self.policy),
            "seed": self.seed,
            "epoch": self.epoch,
            "made_from": list(self.made_from),
        }

    def files(self) -> dict[str, list[Bytes]]:
        """The plan as files, name -> the parts of its bytes: one .npy per array, then plan.json with the checksums of the others.

        A saved plan is complete once its plan.json is there. Contiguous arrays are not copied.
        """
        files: dict[str, list[Bytes]] = {}
        for name, array in self._arrays().items():
            whole = np.ascontiguousarray(array)
            files[f"{name}.npy"] = [_npy_header(whole), whole]
        about = self._about() | {"id": self.id, "files": {name: checksum(parts) for name, parts in files.items()}}
        return files | {"plan.json": [json.dumps(about, indent=1).encode()]}


def _npy_header(array: np.ndarray) -> bytes:
    """What a .npy file has before the bytes of a contiguous array."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    return header.getvalue()


def facts(plan: Plan) -> dict[str, object]:
    """What a notebook shows of a plan. No kernel counts, because a notebook would wait for its compiling."""
    rows = plan.n if plan.kept is None else int(np.bitwise_count(plan.kept).sum(dtype=np.int64))
    weights = plan.weights
    return {
        "id": plan.id,
        "policy": ", ".join(f"{name}={value}" for name, value in plan.policy.items()),
        "rows": share(rows, plan.n),
        "samples": f"{rows if plan.counts is None else int(plan.counts.sum(dtype=np.int64)):,}",
        "loss weights": "all 1"
        if weights is None
        else f"{weights.min(initial=np.inf):.4g} to {weights.max(initial=0):.4g}",
        "epoch": plan.epoch,
        "seed": plan.seed,
        "made from": f"commit {plan.made_from.commit}, and {plan.made_from.updates:,} updates since",
    }


def from_files(files: Mapping[str, np.ndarray], where: str) -> Plan:
    """The plan that `Plan.files` wrote; `files`: name -> (size,) uint8. `where`: the plan's place, for messages.

    Raises `StoreDamaged` if the files are not a plan, or not as they were written.
    """
    try:
        about = json.loads(files["plan.json"].tobytes())
        made_from, epoch = _origin(about)
        if not is_whole(about["n"], 1, most=MOST_ROWS) or not is_whole(about["seed"], -MOST_SEED, most=MOST_SEED):
            raise ValueError("n, seed")
        if not isinstance(about["policy"], dict):
            raise ValueError("policy")
        arrays = {}
        for name, crc in about["files"].items():
            if name not in FILES[1:] or checksum([files[name]]) != crc:
                raise ValueError(name)
            arrays[name.removesuffix(".npy")] = _array(files[name].tobytes())
        plan = Plan(about["n"], about["policy"], about["seed"], epoch, made_from, **arrays)
        _check_arrays(plan)
        if plan.id != about["id"]:
            raise ValueError("id")
    except MALFORMED as error:
        raise StoreDamaged(
            f"{where} is not a plan as it was saved ({error}). Delete that folder; the sampler plans again at its next epoch."
        ) from error
    return plan


def _array(data: bytes) -> np.ndarray:
    """The array in a .npy file. Raises `ValueError` if it is none."""
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # whatever the parsers raise that NumPy calls: of Python's source, of zip archives
        raise ValueError(f"no array: {error}") from error
    if not isinstance(array, np.ndarray):
        raise ValueError("no array, but an archive")
    return array


def origin_of(about: np.ndarray) -> tuple[MadeFrom, int]:
    """The state of the scores that a plan was made from, and the plan's epoch, read from its plan.json alone.

    `about`: the bytes of plan.json, (size,) uint8. Raises `ValueError` if they are not a plan's.
    """
    try:
        return _origin(json.loads(about.tobytes()))
    except MALFORMED as error:
        raise ValueError(str(error)) from error


def _origin(about: Any) -> tuple[MadeFrom, int]:
    """What `origin_of` returns, of the content of plan.json. Raises `ValueError`, or an error of a wrong type."""
    commit, updates = about["made_from"]
    if not (is_whole(commit) and is_whole(updates) and is_whole(about["epoch"])):
        raise ValueError("made_from, epoch")
    return MadeFrom(commit, updates), about["epoch"]


def _check_arrays(plan: Plan) -> None:
    """Raise `ValueError` unless the arrays' lengths and dtypes are right: the kernels do not check them."""
    if plan.kept is not None:
        if plan.kept.dtype != np.uint8 or plan.kept.shape != (-(-plan.n // 8),):
            raise ValueError("kept")
        if np.unpackbits(plan.kept[-1:], bitorder="little")[(plan.n - 1) % 8 + 1 :].any():
            raise ValueError("kept")
    for name, array, kind in (("counts", plan.counts, "u"), ("weights", plan.weights, "f")):
        if array is not None and (array.shape != (plan.num_rows,) or array.dtype.kind != kind):
            raise ValueError(name)
    counts = plan.counts
    if counts is not None and counts.size and (counts.min() < 1 or counts.sum(dtype=np.float64) > MOST_ROWS):
        raise ValueError("counts")
