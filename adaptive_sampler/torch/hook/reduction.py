"""Gets the losses of single samples from a criterion that reduces them."""

from typing import Any

from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.hook.call import Call, made
from adaptive_sampler.torch.hook.side_effects import SideEffects
from adaptive_sampler.torch.hook.twin import twin

_TORCHS = nn.MSELoss.__module__

# The remedy in the error for a criterion that cannot be called twice.
_ONCE = (
    "Take its losses one by one: criterion.reduction = 'none'; losses = hook(input, target); losses.mean().backward(). Or "
    "compute them as you do and call hook.record(rows, loss=losses)."
)


def is_torchs(criterion: nn.Module) -> bool:
    """Whether the criterion runs torch's own forward, without hooks.

    Such a criterion has no state and draws no random numbers, and it is known what its mean divides by.
    """
    forward = getattr(type(criterion), "forward", None)  # a TorchScript module's class has none
    torchs = getattr(forward, "__module__", None) == _TORCHS and "forward" not in vars(criterion)
    return torchs and not criterion._forward_hooks and not criterion._forward_pre_hooks


def unreduced(criterion: nn.Module, *given: Any, **named: Any) -> Tensor:
    """The criterion's losses with `reduction="none"`, (batch, …): one or several per sample. The criterion stays as it is."""
    return losses_of(criterion, made(criterion, given, named))


def losses_of(criterion: nn.Module, call: Call, copied: Any = None) -> Tensor:
    """As `unreduced`, for a `Call`; `copied`: a copy of the criterion to use for it, if one was made before."""
    with twin(criterion, "none", copied) as apart:
        return one_each(criterion, call, call.on(apart))


def one_each(criterion: nn.Module, call: Call, losses: Any) -> Tensor:
    """`losses`, which a criterion gave with reduction="none". Raises `InvalidValue` unless they are those of the samples."""
    if not isinstance(losses, Tensor):
        raise InvalidValue(no_loss(criterion, losses))
    if not losses.ndim or len(losses) != call.length:
        raise InvalidValue(
            f"{type(criterion).__name__} with reduction='none' gives losses {tuple(losses.shape)} for {call.length} samples: one "
            "a sample is needed. Make its reduction='none' do that, or record the losses yourself: hook.record(rows, loss=...)."
        )
    return losses


def is_cross_entropy(criterion: nn.Module, input: Any, target: Any) -> bool:
    """Whether the criterion's losses are −log softmax(input)[target], as `measures.cross_entropy` computes them."""
    if type(criterion) is not nn.CrossEntropyLoss:
        return False
    own = vars(criterion)  # nn.Module's own look-up of `weight` takes longer than all of this
    plain = own["_buffers"].get("weight", own) is None and criterion.label_smoothing == 0 and "forward" not in own
    plain = plain and not own["_forward_hooks"] and not own["_forward_pre_hooks"]
    return plain and isinstance(target, Tensor) and target.ndim == 1 and input.ndim == 2


def per_sample(
    criterion: nn.Module, call: Call, value: Any, losses: Tensor | None, watch: SideEffects | None
) -> Tensor:
    """The losses of the samples, (batch, …); losses of shape (batch, 1) are returned as (batch,).

    `value`: what the criterion returned, None if it was not called. `losses`: the samples' losses, None if not known.
    `watch`: the `SideEffects` that watched the criterion's call, None if nothing did. Raises `InvalidValue` if the
    losses of single samples cannot be obtained.
    """
    if losses is None:
        if hasattr(criterion, "reduction"):
            losses = _apart(criterion, call, value, watch)
        else:
            losses = _returned(criterion, call, call.on(criterion) if value is None else value)
    return losses[:, 0] if losses.ndim == 2 and losses.shape[1] == 1 else losses


def _apart(criterion: nn.Module, call: Call, value: Any, watch: SideEffects | None) -> Tensor:
    """The losses of a criterion that has a `reduction`: `value` if that is "none", else those of a second call."""
    if value is not None and criterion.reduction == "none":
        return one_each(criterion, call, value)
    if value is not None and not isinstance(value, Tensor):
        raise InvalidValue(no_loss(criterion, value))
    if watch is not None and (moved := watch.seen()) is not None:
        raise InvalidValue(
            f"{type(criterion).__name__} {moved} when it is called, and gives one loss for {call.length} samples, while a "
            f"score of the store takes the `loss` of each: the hook would have to call it twice. {_ONCE}"
        )
    return losses_of(criterion, call, None if watch is None else watch.twin)


def _returned(criterion: nn.Module, call: Call, value: Any) -> Tensor:
    """The losses of a criterion that has no `reduction`: what it returned, if that has one entry per sample."""
    if not isinstance(value, Tensor):
        raise InvalidValue(no_loss(criterion, value))
    if value.ndim and len(value) == call.length:
        return value
    raise InvalidValue(
        f"{type(criterion).__name__} returns one loss for {call.length} samples and has no `reduction` to take it apart "
        "by, and a score of the store takes the `loss` of each. Give it a `reduction` that may be 'none', have it return "
        "the samples' losses, or compute them as you do and call hook.record(rows, loss=...)."
    )


def no_loss(criterion: nn.Module, value: Any) -> str:
    """The message for a criterion that returns nothing in which a score finds a loss; it shows how to record one."""
    return (
        f"{type(criterion).__name__} returns a {type(value).__name__}, in which no score finds the `loss` of each sample. Compute "
        "it as you do and record it: hook.record(rows, loss=..., logits=..., labels=...), with what the store's scores take; "
        "under watch rows = hook.claim(len(input)). What you train on is then hook.criterion(...)."
    )


def no_single_loss(criterion: nn.Module, losses: Tensor, more: str = "") -> InvalidValue:
    """The error for a criterion that has several losses per sample; it shows how to make them one.

    `more`: further arguments of the hook that it shows.
    """
    reduction = getattr(criterion, "reduction", "mean")
    over = "'sum'" if reduction == "sum" else ""
    total = ".flatten(1).sum(1)" if reduction in ("sum", "batchmean") else ""
    return InvalidValue(
        f"loss has shape {tuple(losses.shape)}: one loss a sample, ({len(losses)},), is what a score takes, and "
        f"{type(criterion).__name__} has several. Give a hook these losses, of which it makes one: criterion with "
        f"reduction='none'; hook = LossHook(PartsLoss({over}), hook.store, sampler=hook.sampler{more}); in the loop "
        f"hook(criterion(input, target){total}).backward(). Where tokens or pixels have classes, of which some are ignored: "
        "TokenLossHook(store, shift=False); for a language model TokenLossHook(store)."
    )
