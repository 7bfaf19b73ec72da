"""Where a hook cannot record: in a graph that is compiled, in a functional transform, in a process without its store."""

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import nn

from adaptive_sampler.errors import InvalidValue

_transforms = getattr(getattr(torch._C, "_functorch", None), "peek_interpreter_stack", lambda: None)


_REASON = (
    "a LossHook records on the host. Call torch.compile without fullgraph=True, or compile the model alone and call the hook "
    "outside: model = torch.compile(model); hook(model(inputs), labels)"
)
_uncompiled: list[Callable[..., Any]] = []


def uncompiled() -> Callable[..., Any]:
    """Calls a hook outside of the graph. Made when asked for: it imports the compiler, and takes its time at each call."""
    if not _uncompiled:
        torch._dynamo.graph_break(msg=_REASON)  # where no break may be, this is the error
        _uncompiled.append(torch.compiler.disable(_called, reason=_REASON))  # type: ignore[no-untyped-call]
    return _uncompiled[0]


def _called(hook: nn.Module, given: tuple[Any, ...], rows: Any, named: dict[str, Any]) -> Any:
    return hook.forward(*given, rows=rows, **named)


def refuse_transforms() -> None:
    """Raise `InvalidValue` inside torch.func.grad, vmap and their like, whose tensors have no values."""
    if _transforms() is not None:
        raise InvalidValue(
            "a LossHook was called inside a torch.func transform (grad, vmap, jvp, ...), whose tensors have no values to record. "
            "Call hook.criterion(...) inside the transform, and hook.record(rows, logits=..., labels=...) outside of it."
        )


def elsewhere(kind: type, criterion: nn.Module, path: str, nonfinite: Any) -> Any:
    """A hook as it arrives in another process: its criterion, and word of where the store is."""
    store = Absent(path)
    hook = kind(criterion, store, nonfinite=nonfinite)
    hook._adaptive_sampler.pending = store  # a call that would record asks for its rows first
    return hook


class Absent:
    """In place of a store that stayed in the process that made it: whatever is asked of it raises."""

    def __init__(self, path: str) -> None:
        self.path = path

    @property
    def session(self) -> "Absent":
        """What a hook asks of a store's session, it asks here."""
        return self

    def register(self, hook: Any) -> None:
        """Nothing is drained here."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise InvalidValue(
            f"this LossHook was loaded from a file or another process, and its store stayed where it was made ({self.path}): "
            "nothing can be recorded. Open that store or make one, and make the hook anew: LossHook(hook.criterion, store)."
        )

    def __len__(self) -> int:
        return self.__getattr__("len")

    def __getitem__(self, name: str) -> NoReturn:
        self.__getattr__(name)
