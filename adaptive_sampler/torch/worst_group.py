"""The group that does worst, and how sure that is: what group robustness is judged by."""

import math
from typing import Any, NamedTuple

import numpy as np

from adaptive_sampler.arrays import to_host
from adaptive_sampler.errors import InvalidValue


class WorstGroup(NamedTuple):
    """The group with the highest mean loss: its label `group`, the mean `loss`, the `standard_error` of that mean, from the sample
    variance of the group's losses (NaN of one alone), and the `number` of its losses."""

    group: Any
    loss: float
    standard_error: float
    number: int


def worst_group(losses: Any, groups: Any) -> WorstGroup:
    """The group with the highest mean of `losses`, (n,) numbers; of mistakes, 0 or 1 each, that with the lowest accuracy.

    `groups`: (n,) labels, numbers or texts. Both may be tensors, on any device. Of equal groups the first in order of the labels is
    told. The standard error says how far the mean of this group is known, not that another group is better. Raises
    `InvalidValue` for other shapes, for no losses or what is no number, for labels of several kinds or NaN, and, naming the sample,
    for a loss that is NaN or inf.
    """
    values, labels = to_host(losses), to_host(groups)
    if values.dtype.kind not in "fiub":
        raise InvalidValue(f"losses have dtype {values.dtype}: numbers are needed, one for each sample.")
    values = values.astype(np.float64)
    if values.ndim != 1 or values.shape != labels.shape or not len(values):
        raise InvalidValue(
            f"losses have shape {values.shape} and groups {labels.shape}: one loss and one label for each sample, (n,), are needed."
        )
    if not np.isfinite(values).all():
        sample = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InvalidValue(f"the loss of sample {sample} is {values[sample]}: leave it out, or look for its cause.")
    kinds = sorted({type(label).__name__ for label in labels.tolist()}) if labels.dtype.hasobject else []
    if len(kinds) > 1 or (labels.dtype.kind == "f" and np.isnan(labels).any()):
        what = " and ".join(kinds) or "NaN"
        raise InvalidValue(f"groups has labels of {what}: one kind of label is needed, and one for each sample.")
    found, codes = np.unique(labels, return_inverse=True)
    numbers = np.bincount(codes)
    means = np.bincount(codes, values) / numbers
    worst = int(np.argmax(means))
    spread = values[codes == worst]
    error = float(spread.std(ddof=1)) / math.sqrt(len(spread)) if len(spread) > 1 else math.nan
    return WorstGroup(found[worst : worst + 1].tolist()[0], float(means[worst]), error, int(numbers[worst]))
