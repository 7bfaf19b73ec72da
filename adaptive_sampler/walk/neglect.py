"""Tells where a plan keeps almost none of a class, because its policy ranks the rows of all classes together."""

import warnings
from typing import Any

import numpy as np

from adaptive_sampler.plan import Plan
from adaptive_sampler.selection.composed import parts_of, scores_of
from adaptive_sampler.selection.per_group import grouped
from adaptive_sampler.store import ScoreStore

_ENOUGH = 20  # samples of a class that would stay if the class made no difference; smaller classes are not judged
_ALMOST_NONE = 0.1  # of these: fewer are almost none
_NAMED = 3  # classes in the message


def ranks_all_classes(policy: Any) -> bool:
    """Whether a policy, or a part of it, goes by a score and could keep its share within each class, and was not told to."""
    return any(hasattr(part, "per_class") and not grouped(part) and bool(scores_of(part)) for part in parts_of(policy))


def warn_of_neglect(plan: Plan, policy: Any, store: ScoreStore) -> bool:
    """Warn if `plan` keeps almost none of a class, as far as hooks have seen the classes -> whether it does.

    The share of a class is compared with that of all rows whose class was seen.
    """
    if plan.kept is None or not store.session.classes.seen:
        return False
    seen, kept = store.session.classes.counts(plan.kept)
    share = kept.sum() / max(int(seen.sum()), 1)
    expected = share * seen
    few = np.flatnonzero((expected >= _ENOUGH) & (kept < _ALMOST_NONE * expected))
    if not len(few):
        return False
    worst = few[np.argsort(kept[few] / seen[few], kind="stable")]
    named = ", ".join(f"{kept[label]} of {seen[label]} of class {label}" for label in worst[:_NAMED].tolist())
    more = f", as little of {len(worst) - _NAMED} more" if len(worst) > _NAMED else ""
    warnings.warn(
        f"the plan of epoch {plan.epoch} keeps almost none of some classes: of the samples that were seen here {named}{more}, but "
        f"{share:.0%} of all. {policy} ranks all classes together. Give it per_class=labels, the class of each row, or "
        "per_group='the column of the store that has them', and it keeps its share of each class; or, if it is meant so, "
        "warnings.filterwarnings('ignore', 'the plan of epoch').",
        RuntimeWarning,
        stacklevel=2,
    )
    return True
