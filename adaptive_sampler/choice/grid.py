"""Policies of every combination of arguments."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from adaptive_sampler.errors import InvalidValue


class Grid(Mapping[str, Any]):
    """Policies by name: `policies`, of the arguments that they were made with; `refused`: why other combinations are none."""

    def __init__(self, policies: Mapping[str, Any], refused: Mapping[str, str]) -> None:
        self._policies, self.refused = dict(policies), dict(refused)

    def __getitem__(self, name: str) -> Any:
        return self._policies[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._policies)

    def __len__(self) -> int:
        return len(self._policies)


def grid(make: Callable[..., Any], **arguments: Any) -> Grid:
    """A policy for every combination of the arguments that are lists; `choose` takes each as a candidate.

    `make`: the policy's class, or a function that makes one. `arguments`: its keywords; a list holds values to try, anything
    else goes to every policy (to pass a list itself, put it into another one). A combination that `make` refuses by an
    `InvalidValue`, as a window past the last row is, is left out, and `refused` says why. Raises `InvalidValue` if no list is
    given, if one is empty, and if every combination is refused.
    """
    tried = {name: values for name, values in arguments.items() if isinstance(values, list)}
    if not tried or not all(tried.values()):
        raise InvalidValue(f"grid({arguments}): at least one list of values to try, none of them empty, is needed.")
    policies, refused = {}, {}
    for values in itertools.product(*tried.values()):
        chosen = dict(zip(tried, values, strict=True))
        name = ", ".join(f"{argument}={value}" for argument, value in chosen.items())
        if name in policies or name in refused:
            raise InvalidValue(f"grid has {name} twice: give each value once, and values that print differently.")
        try:
            policies[name] = make(**{**arguments, **chosen})
        except InvalidValue as error:
            refused[name] = str(error)
    if not policies:
        raise InvalidValue(f"every combination was refused: {refused}.")
    return Grid(policies, refused)
