"""What a policy returns: a plan made of arrays, and checked."""

from typing import Any

import numpy as np

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import bits
from adaptive_sampler.plan import MOST_VISITS, Plan
from adaptive_sampler.selection.base import Policy, Scores, describe


def plan_by(policy: Policy, store: Scores, epoch: int, seed: int) -> Plan:
    """What a policy plans, which may be one of a user's own. Raises `InvalidValue` for what is no plan of the store's rows."""
    plan: Any = policy.plan(store, epoch=epoch, seed=seed)
    if not isinstance(plan, Plan):
        raise InvalidValue(
            f"{policy} plans {type(plan).__name__}, no Plan: have its method plan return what selection.make returns."
        )
    if plan.n != len(store):
        raise InvalidValue(f"{policy} plans {plan.n} rows for a store of {len(store)}: plan all rows of the store.")
    return plan


def make(store: Scores, policy: Any, epoch: int, seed: int, **arrays: np.ndarray | None) -> Plan:
    """Make the plan of `epoch` with these arrays (none: every row is kept), by `policy`, from the present scores of `store`.

    `epoch`, `seed`: those that the policy's `plan` was called with.
    `arrays`: `kept`, (n,) bool, or the same packed by np.packbits with bitorder="little", (ceil(n / 8),) uint8; `counts`
    and `weights` as in `Plan`. Raises `InvalidValue` for arrays of another form, for a kept row that is visited less than once, for
    a weight that is negative, or NaN or inf as float32, for weights that are all 0, and for a plan without samples.
    """
    rows = len(store)
    if arrays.get("kept") is not None:
        arrays["kept"] = kept = _packed(np.asarray(arrays["kept"]), rows)
        rows = bits.count(kept)
    if not rows:
        raise InvalidValue(
            f"{policy} keeps none of {len(store)} rows, and an epoch without samples is none. Keep more."
        )
    if arrays.get("counts") is not None:
        arrays["counts"] = _counted(policy, np.asarray(arrays["counts"]), rows)
    if arrays.get("weights") is not None:
        arrays["weights"] = _weighed(policy, np.asarray(arrays["weights"]), rows)
    plan = Plan(len(store), describe(policy), seed, epoch, store.made_from, **arrays)
    vars(plan)["num_rows"] = rows  # they are counted already
    return plan


def _counted(policy: Any, counts: np.ndarray, rows: int) -> np.ndarray:
    """How often each kept row is visited, as a policy gives it."""
    if counts.dtype.kind not in "iu" or counts.shape != (rows,):
        raise InvalidValue(
            f"{policy}: counts have dtype {counts.dtype} and shape {counts.shape}: pass ({rows},) integers, one for each "
            "kept row, in ascending order."
        )
    least = counts.min()
    most = counts.max() if np.iinfo(counts.dtype).max > MOST_VISITS else least
    if least < 1 or most > MOST_VISITS:
        raise InvalidValue(
            f"{policy}: a kept row would be visited {least if least < 1 else most} times. Leave out of `kept` what is not to be "
            f"visited, and visit others 1 to {MOST_VISITS} times."
        )
    return counts


def _weighed(policy: Any, weights: np.ndarray, rows: int) -> np.ndarray | None:
    """The loss weight of each kept row, as a policy gives it, float32; None if all are 1."""
    if weights.dtype.kind not in "iuf" or weights.shape != (rows,):
        raise InvalidValue(
            f"{policy}: weights have dtype {weights.dtype} and shape {weights.shape}: pass ({rows},) numbers, one for each "
            "kept row, in ascending order."
        )
    with np.errstate(over="ignore"):  # an infinite weight is told
        found = weights.astype(np.float32, copy=False)
    least, most = found.min(), found.max()  # NaN if one is
    if not np.isfinite([least, most]).all():
        raise InvalidValue(f"{policy}: a loss weight is {found[~np.isfinite(found)][0]}. Weigh by finite numbers.")
    if least < 0:
        raise InvalidValue(f"{policy}: a loss weight is {least}. Weigh by numbers of 0 or more.")
    if most == 0:
        raise InvalidValue(
            f"{policy}: every loss weight is 0, so that nothing would be learned. Weigh some rows above 0."
        )
    return None if least == most == 1 else found


def _packed(kept: np.ndarray, n: int) -> np.ndarray:
    if kept.dtype == np.bool_ and kept.shape == (n,):
        return np.packbits(kept, bitorder="little")
    if kept.dtype != np.uint8 or kept.shape != (-(-n // 8),):
        raise InvalidValue(
            f"kept has dtype {kept.dtype} and shape {kept.shape}: pass ({n},) bool, an entry for each row of the store, or "
            f"({-(-n // 8)},) uint8, which np.packbits(mask, bitorder='little') makes of it. Of numbers of rows, "
            f"np.isin(np.arange({n}), rows) makes a mask."
        )
    return kept
