"""Which scores of a store a token can have, and the count of a document's tokens that is kept beside them."""

from collections.abc import Mapping
from typing import Any

from adaptive_sampler.errors import InvalidValue, StoreError
from adaptive_sampler.scoring import EL2N, Tokens, Transitions
from adaptive_sampler.scoring.base import ScoreLike
from adaptive_sampler.scoring.reading import inputs_of
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.torch.hook.outside import Absent

_OF_TOKENS = frozenset({"logits", "labels", "loss"})
# Kinds of built-in scores -> the measured value of a token that they keep, where it is not called as the kind is.
_VALUES = {"variability": "confidence"}


def of_tokens(store: ScoreStore) -> list[ScoreLike]:
    """The scores that are measured token by token, from logits, labels or loss; a document's value is the mean over them.

    Raises `InvalidValue` for a score of which a mean over tokens means nothing.
    """
    found = [score for score in store.scores if any(set(some) <= _OF_TOKENS for some in score.inputs)]
    for score in found:
        if isinstance(score.fold, Transitions):
            raise InvalidValue(
                f"score {score.name!r} counts how often a sample turns from right to wrong, and a document is right in some of its "
                "tokens: it has no such moment. Leave the score out of this store; Error() keeps the share of wrong tokens."
            )
    return found


def check_store(store: Any, *further: Any) -> None:
    """Raise `InvalidValue` unless `store` is the store of a hook, and there are no `further` arguments without a name."""
    if further and isinstance(further[0], ScoreStore):
        raise InvalidValue(
            f"TokenLossHook({type(store).__name__}, store): it computes the loss itself, and takes no criterion. The store is the "
            "first argument, TokenLossHook(store); LossHook(criterion, store) is for one loss a sample."
        )
    if further or not isinstance(store, ScoreStore | Absent):
        more = f" and {len(further)} more" if further else ""
        raise InvalidValue(
            f"TokenLossHook was given {type(store).__name__}{more}: a ScoreStore is needed, and what follows it by name. Make it "
            "so: TokenLossHook(ScoreStore.create(path, n, [Loss()]), sampler=sampler)."
        )


def prepared(store: ScoreStore | Absent) -> str:
    """The name of the store's score `Tokens`, which is added if it has none; "" for a store that stayed elsewhere.

    Raises `InvalidValue` as `of_tokens` does, and `StoreError` if a store that is open to read has none, or one on ranks
    while updates wait for `sync`.
    """
    if isinstance(store, Absent):
        return ""
    of_tokens(store)
    for score in store.scores:
        if isinstance(score, Tokens):
            return score.name
    if store.session.mode == "r":
        raise StoreError(
            f"{store.path} is open to read (mode='r'), and has no score Tokens, which the hook adds. Open it with mode='r+'."
        )
    store.add(Tokens())
    return Tokens().name


def check_loss_alone(scores: list[ScoreLike]) -> None:
    """Raise `InvalidValue` if a score needs more than the losses of tokens."""
    needy = [score for score in scores if ("loss",) not in score.inputs]
    if needy:
        raise InvalidValue(
            f"{_named(needy)}: hook.linear never has the logits, and records scores of the loss alone. Leave them out of the "
            "store, or compute the logits and call hook(logits, labels)."
        )


def given_values(scores: list[ScoreLike], given: Mapping[str, Any]) -> dict[str, tuple[str, bool]]:
    """Score name -> (the name in `given` of the value that it keeps, whether it is squared).

    A value is named as the score, or as the kind of a built-in score. Raises `InvalidValue` for scores without one.
    """
    found: dict[str, tuple[str, bool]] = {}
    missing = []
    for score in scores:
        kind = str(getattr(score, "kind", ""))
        value = _VALUES.get(kind, kind)
        if score.name in given and value != score.name:
            found[score.name] = score.name, False
        elif value in given:
            found[score.name] = value, isinstance(score, EL2N) and score.squared
        else:
            missing.append(score)
    if missing:
        raise InvalidValue(
            f"{_named(missing)}: among the values given ({', '.join(given) or 'none'}) is none for it. Name a value as the score, "
            "or as its kind (loss, el2n, entropy, error, margin, confidence); or leave the score out of the store."
        )
    return found


def _named(scores: list[ScoreLike]) -> str:
    return "; ".join(f"score {score.name!r} takes {inputs_of(score)}" for score in scores)
