"""What some scores take of an observation: found out once for each kind of observation, and then done at each step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from adaptive_sampler.arrays import Array, as_array
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring.base import ScoreLike
from adaptive_sampler.scoring.one_pass import at_hand
from adaptive_sampler.scoring.sharing import shared

OURS = __name__.split(".", maxsplit=1)[0] + "."


@dataclass(frozen=True)
class Reading:
    """How one score is measured: of which arrays, by name, and whether its measure takes any library's."""

    name: str
    measure: Callable[..., Array]
    inputs: tuple[str, ...]
    any_library: bool


class Reader:
    """Measures what observations say to `scores`."""

    def __init__(self, scores: Sequence[ScoreLike]) -> None:
        self.scores = list(scores)
        self._known: dict[tuple[str, ...], tuple[list[Reading], set[str]]] = {}

    @cached_property
    def inputs(self) -> tuple[frozenset[str], frozenset[str]]:
        """Every observation name that some score takes; and those of scores to which logits and labels are not as good."""
        names = {s.name: frozenset(chain(*s.inputs, getattr(s, "optional", ()))) for s in self.scores}
        others = [s.name for s in self.scores if not (is_built_in(s) and ("logits", "labels") in s.inputs)]
        return frozenset().union(*names.values()), frozenset().union(*(names[name] for name in others))

    def measure(self, observation: Mapping[str, Array]) -> dict[str, Array]:
        """What an observation says, on its own device: score name -> (batch,). Raises `InvalidValue` if it feeds no score.

        What a built-in score says of tensors on the host is NumPy's.
        """
        given = {name: as_array(array) for name, array in observation.items()}
        readings, near = self._known.get(tuple(given)) or self._learn(tuple(given))
        values = {}
        with shared():
            hand = {name: at_hand(given[name]) for name in near}
            for reading in readings:
                if reading.any_library:
                    values[reading.name] = reading.measure(**{name: hand[name] for name in reading.inputs})
                else:
                    values[reading.name] = as_array(reading.measure(**{name: given[name] for name in reading.inputs}))
        return values

    def _learn(self, names: tuple[str, ...]) -> tuple[list[Reading], set[str]]:
        """The readings of an observation with these names, and the names that built-in scores take."""
        readings = [reading for score in self.scores if (reading := _reading(score, names))]
        if not readings:
            wanted = "; ".join(f"{score.name}: {inputs_of(score)}" for score in self.scores)
            raise InvalidValue(f"the observation ({', '.join(names) or 'empty'}) feeds no score. They take {wanted}.")
        near = set(chain(*(reading.inputs for reading in readings if reading.any_library)))
        self._known[names] = readings, near
        return self._known[names]


def inputs_of(score: ScoreLike) -> str:
    """What a score takes, in words: "loss or logits + labels"."""
    return " or ".join(" + ".join(some) for some in score.inputs)


def _reading(score: ScoreLike, names: tuple[str, ...]) -> Reading | None:
    """Of the alternatives that a score takes the first that is there; with what a custom measure takes besides."""
    inputs = next((some for some in score.inputs if set(some) <= set(names)), None)
    if inputs is None:
        return None
    optional = getattr(score, "optional", ()) if len(score.inputs) == 1 else ()
    inputs += tuple(name for name in optional if name in names)
    return Reading(score.name, score.measure, inputs, is_built_in(score))


def is_built_in(score: ScoreLike) -> bool:
    """Whether the score's measure is one of this package, which take any library's arrays, and logits as those of classes."""
    return str(getattr(getattr(type(score), "measure", None), "__module__", "")).startswith(OURS)
