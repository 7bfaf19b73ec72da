"""The places where a hook cannot record: a compiled graph, a torch.func transform, a process without the hook's store."""

from collections.abc import Callable
from typing import Any, NoReturn

import torch

from adaptive_sampler.errors import InvalidValue

# Returns None outside of torch.func's transforms. It is private to torch; a version without it counts as outside.
_transforms = getattr(getattr(torch._C, "_functorch", None), "peek_interpreter_stack", lambda: None)


_REASON = (
    "a loss hook records on the host. Call torch.compile without fullgraph=True, or compile the model alone and call the hook "
    "outside: model = torch.compile(model); hook(model(inputs), labels)"
)
_uncompiled: list[Callable[..., Any]] = []


def uncompiled() -> Callable[..., Any]:
    """A function that calls a method of a hook outside of the compiled graph: (method, its arguments, rows, named ones).

    It is made only when it is needed, because making it imports the compiler, and because a call through it is slow.
    """
    if not _uncompiled:
        torch._dynamo.graph_break(msg=_REASON)  # with fullgraph=True, which forbids breaks, this raises
        _uncompiled.append(torch.compiler.disable(_called, reason=_REASON))  # type: ignore[no-untyped-call]  # untyped in torch
    return _uncompiled[0]


def _called(method: Callable[..., Any], given: tuple[Any, ...], rows: Any, named: dict[str, Any]) -> Any:
    return method(*given, rows=rows, **named)


def refuse_transforms(inside: str, outside: str) -> None:
    """Raise `InvalidValue` inside a transform such as torch.func.grad or vmap, where tensors have no values to record.

    The message says to call `inside` there, and `outside` of it what records.
    """
    if _transforms() is not None:
        raise InvalidValue(
            "a loss hook was called inside a torch.func transform (grad, vmap, jvp, ...), whose tensors have no values to record. "
            f"Call {inside} inside the transform, and {outside} outside of it."
        )


def elsewhere(kind: type, given: tuple[Any, ...], path: str, named: dict[str, Any]) -> Any:
    """Make the hook that a pickle holds, `kind(*given, store, **named)`, with `Absent` in place of its store at `path`."""
    told = [f"{name}=hook.{name}" for name in ("shift", "ignore_index", "joins") if name in named]
    store = Absent(path, f"{kind.__name__}({', '.join(['hook.criterion'] * len(given) + ['store', *told])})")
    hook = kind(*given, store, **named)
    hook._adaptive_sampler.pending = store  # any call that would record raises, because it asks this for its rows
    return hook


class Absent:
    """Stands in for a store that stayed in the process that made it: any use of it raises `InvalidValue`.

    `anew`: how the hook that has it is made with a store.
    """

    def __init__(self, path: str, anew: str) -> None:
        self.path, self.anew = path, anew

    @property
    def session(self) -> "Absent":
        """This object, so that whatever a hook asks of a store's session raises too."""
        return self

    def register(self, hook: Any) -> None:
        """Do nothing: there are no values that a reader would have to wait for."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise InvalidValue(
            f"this hook was loaded from a file or another process, and its store stayed where it was made ({self.path}): "
            f"nothing can be recorded. Open that store or make one, and make the hook anew: {self.anew}."
        )

    def __len__(self) -> int:
        return self.__getattr__("len")

    def __getitem__(self, name: str) -> NoReturn:
        self.__getattr__(name)
