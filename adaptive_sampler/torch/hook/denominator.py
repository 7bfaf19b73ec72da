"""Finds what the mean of a custom criterion divides by, from the values that the criterion returns."""

from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.data.batches import tensors_of
from adaptive_sampler.torch.hook.call import Call, floats
from adaptive_sampler.torch.hook.reduction import losses_of
from adaptive_sampler.torch.hook.side_effects import Looks
from adaptive_sampler.torch.hook.twin import twin

# dtype -> (relative difference up to which two numbers count as equal, |Σℓ| / Σ|ℓ| up to which Σℓ is lost in rounding)
_PRECISION = {torch.float64: (1e-9, 1e-6), torch.float32: (1e-4, 1e-2)}


class Denominator:
    """Σℓ / mean for a hook's criterion, computed anew for each batch, because masks and classes vary.

    This quotient is the mean's denominator only if it is a property of the samples: the quotients of two parts of a
    batch add up to that of the whole batch, and the quotient does not change with the input. Both are tested on each
    batch of two or more samples, until a batch passes in which more than half of the samples have a loss. (If most
    losses are 0, different kinds of mean give the same value.)

    Afterwards a criterion may still begin to select samples, by a threshold or a schedule. So both are tested again on
    the 2nd, 4th, 8th batch and so on, on every 64th, and on each batch whose quotient per sample differs from that of
    the batch that passed.
    """

    def __init__(self) -> None:
        self.looks = Looks()
        self._again = Looks()
        self._share: float | None = None  # the quotient per sample of the first batch that passed; None before
        self._dtype = torch.float64

    def of(self, criterion: nn.Module, call: Call) -> float:
        """The denominator of the criterion's mean on this batch. Raises `InvalidValue` for a criterion that has none."""
        try:
            found = self._found(criterion, call)
        except InvalidValue:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            if self._dtype is torch.float32:
                raise InvalidValue(refused(criterion, f"called on parts of a batch it raises {error!r}")) from error
            self._dtype = torch.float32  # some criteria work only in single precision
            return self.of(criterion, call)
        return float(call.length) if found is None else found  # None: the losses are 0 and have no gradient

    def _found(self, criterion: nn.Module, call: Call) -> float | None:
        """The denominator, tested if due; None if losses and gradients are 0 or not finite, so that any number will do."""
        exact = call.mapped(floats(lambda x: x.detach().to(self._dtype)))
        whole = self._ratio(criterion, exact)
        if whole is None or (call.length == 1 and criterion.reduction != "sum"):
            return whole
        foreseen = self._share is not None and self._near(whole, self._share * call.length)
        due = self._again.due() or self._share is None
        if due or not foreseen:
            passed = self._asked(criterion, exact, whole, due, foreseen)
            if passed and self._share is None:
                self._share = whole / call.length
        return whole

    def _asked(self, criterion: nn.Module, call: Call, whole: float, thoroughly: bool, foreseen: bool) -> bool:
        """As `_belongs`, but the errors say so if earlier batches passed.

        After a first batch passed, a criterion that cannot be called on parts of a batch is judged by its gradient
        alone.
        """
        if self._share is None:
            return self._belongs(criterion, call, whole, thoroughly)
        try:
            return self._belongs(criterion, call, whole, thoroughly)
        except InvalidValue as error:
            raise InvalidValue(f"{error} Earlier batches of it passed.") from error
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            # That the criterion cannot be called on parts of this batch says nothing against a denominator that is as
            # expected.
            if not foreseen and self._by_gradient(criterion, call, whole) is None:
                why = "what its mean divides by depends on the input"
                raise InvalidValue(f"{refused(criterion, why)} Earlier batches of it passed.") from error
            return False

    def _near(self, found: float, expected: float) -> bool:
        """Whether two denominators are equal up to rounding."""
        return abs(found - expected) <= 10 * self._tolerance * abs(expected)

    def _belongs(self, criterion: nn.Module, call: Call, whole: float, thoroughly: bool) -> bool:
        """Whether `whole` is a property of the samples; False if this batch cannot show it. Raises `InvalidValue` if it is not.

        `thoroughly`: test three splits of the batch, else only the one that shows whether the mean selects samples by
        the size of their losses.
        """
        if criterion.reduction == "sum":
            if not self._near(whole, 1):
                raise InvalidValue(
                    refused(criterion, f"with reduction='sum' it gives 1/{whole:.6g} of the sum of its losses")
                )
            return True
        further, failed = call.further(), []
        # An argument that has the batch's length by chance, such as class weights, must stay whole. Try which ones
        # those are.
        for kept in dict.fromkeys((frozenset(), *(frozenset((x,)) for x in further), frozenset(further))):
            try:
                return self._adds_up(criterion, call, whole, kept, thoroughly)
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                failed.append(error)
        raise failed[0]

    def _adds_up(self, criterion: nn.Module, call: Call, whole: float, kept: frozenset[int], thoroughly: bool) -> bool:
        """As `_belongs`, for parts in which the tensors with the ids `kept` stay whole."""
        told = 0
        sizes, splits = self._splits(criterion, call)
        splits = splits if thoroughly else splits[-1:]
        for one, other in splits:
            parts = [self._ratio(criterion, call.part(at, kept)) for at in (one, other)]
            if any(part is None or part != part for part in parts):  # NaN: no sample of that part counts
                continue
            told += 1
            if not self._near(sum(part for part in parts if part is not None), whole):
                raise InvalidValue(
                    refused(
                        criterion,
                        f"its mean over {call.length} samples divides the sum of its losses by {whole:.6g}, and over two "
                        f"parts of them by {parts[0]:.6g} and {parts[1]:.6g}, which should add up to it",
                    )
                )
        if told and self._by_gradient(criterion, call, whole) is None:
            raise InvalidValue(refused(criterion, "what its mean divides by depends on the input"))
        return told == len(splits) and int((sizes != 0).sum()) > call.length / 2

    def _splits(self, criterion: nn.Module, call: Call) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """-> the losses, (batch,), and three splits of the batch's positions into two parts each.

        They are two halves, a random split, and a split by the size of the losses. The last one puts every second loss,
        in order of size, on either side.
        """
        half = call.length // 2
        generator = torch.Generator().manual_seed(0)  # not torch's default one, which the training draws from
        with torch.no_grad():
            losses = losses_of(criterion, call).reshape(call.length, -1).sum(1).cpu()
        shuffled = torch.randperm(call.length, generator=generator)
        first = int(torch.randint(1, call.length, (), generator=generator))
        by_size, places = losses.argsort(), torch.arange(call.length)
        return losses, [
            (places[:half], places[half:]),
            (shuffled[:first], shuffled[first:]),
            (by_size[::2], by_size[1::2]),
        ]

    def _ratio(self, criterion: nn.Module, call: Call) -> float | None:
        """Σℓ / value; None if losses and gradients are all 0, or if the losses are not finite: then any quotient will do.

        If Σℓ is lost in rounding, the quotient is taken from the gradients. Raises `InvalidValue` if those cannot tell
        either.
        """
        with torch.no_grad():
            value, losses = self._both(criterion, call, self._state(criterion))
        total, size = float(losses.sum()), float(losses.abs().sum())
        if abs(total) > self._lost * size and float(value) != 0:
            return total / float(value)
        if not size < float("inf"):
            return None  # not finite, whatever it is divided by
        found = self._by_gradient(criterion, call, None)
        if found is None and size > 0:
            raise InvalidValue(
                refused(criterion, f"the losses of this batch add up to {total:.3g}, of which no mean can be told")
            )
        return found

    def _by_gradient(self, criterion: nn.Module, call: Call, expected: float | None) -> float | None:
        """The same quotient from the gradients of Σℓ and of the value, whose lengths have the same ratio.

        None if the gradients are 0, or there are none. With `expected`: `expected` itself if the gradient of Σℓ is
        `expected` times that of the value, or if there is no gradient; else None.
        """
        with torch.inference_mode(False), torch.enable_grad():
            leaves = [x for x in tensors_of((call.input,)) if x.is_floating_point()]
            held = {id(x): x.clone().requires_grad_() for x in leaves}
            state = self._state(criterion)
            learned = {name: state[name].clone().requires_grad_() for name, _ in criterion.named_parameters()}
            value, losses = self._both(criterion, call.mapped(lambda x: held.get(id(x), x)), state | learned)
            if not (value.requires_grad and losses.requires_grad):
                return expected
            of_value, of_sum = (_gradient(x, [*held.values(), *learned.values()]) for x in (value, losses.sum()))
        if expected is not None:
            near = (of_value * expected - of_sum).norm() <= 10 * self._tolerance * of_sum.norm()
            return expected if near else None
        along = float(of_value @ of_sum)
        return float(of_sum @ of_sum) / along if along else None

    def _state(self, criterion: nn.Module) -> dict[str, Tensor]:
        """The criterion's parameters and buffers, in the precision that the search uses."""
        cast: Callable[[Tensor], Tensor] = floats(lambda x: x.detach().to(self._dtype))
        return {name: cast(x) for name, x in chain(criterion.named_parameters(), criterion.named_buffers())}

    def _both(self, criterion: nn.Module, call: Call, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The value, (), and the losses of the call, by copies of the criterion whose parameters and buffers are `state`."""
        found: list[Any] = []
        for reduction in (criterion.reduction, "none"):
            with twin(criterion, reduction) as other:
                found.append(torch.func.functional_call(other, state, call.given, call.named))
        value, losses = found
        if not isinstance(value, Tensor) or value.numel() != 1:
            kind = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise InvalidValue(refused(criterion, f"it returns {kind} where one number was expected"))
        return value.reshape(()), losses

    @property
    def _tolerance(self) -> float:
        return _PRECISION[self._dtype][0]

    @property
    def _lost(self) -> float:
        return _PRECISION[self._dtype][1]


def _gradient(value: Tensor, leaves: list[Tensor]) -> Tensor:
    """The gradient of `value` by all `leaves`, in one flat vector."""
    found = torch.autograd.grad(value, leaves, retain_graph=True, materialize_grads=True)
    return torch.cat([x.flatten() for x in found])


def refused(criterion: nn.Module, why: str) -> str:
    """The message for a criterion that the hook cannot weight; it shows how to weight its losses beside the hook."""
    return (
        f"{type(criterion).__name__} cannot be weighed by the hook: {why}. Weigh its losses yourself and divide as your mean "
        "does: hook = LossHook(criterion, store), without sampler=, where criterion.reduction = 'none'; "
        "weights = torch.from_numpy(sampler.loss_weights(rows)); losses = hook(input, target, rows=rows); "
        "loss = (weights * losses).sum() / ..."
    )
