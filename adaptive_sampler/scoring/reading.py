"""What each score takes of an observation: worked out once for each set of array names, then used at every step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

from adaptive_sampler.arrays import Array, as_array
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import measure as kernels
from adaptive_sampler.scoring.base import ScoreLike
from adaptive_sampler.scoring.one_pass import at_hand, lines_of, one_pass
from adaptive_sampler.scoring.sharing import shared

OURS = __name__.split(".", maxsplit=1)[0] + "."
_LINES = {  # kind of score -> the line of `one_pass` that is its measure of logits and labels
    "confidence": kernels.CONFIDENCE,
    "el2n": kernels.EL2N,
    "entropy": kernels.ENTROPY,
    "error": kernels.INCORRECT,
    "forgetting": kernels.INCORRECT,
    "loss": kernels.LOSS,
    "margin": kernels.MARGIN,
    "variability": kernels.CONFIDENCE,
}


@dataclass(frozen=True)
class Reading:
    """How one score is measured: the names of the arrays that it takes, and whether they may be of any library.

    `line`: the line of `one_pass` that is this measure, where one is.
    """

    name: str
    measure: Callable[..., Array]
    inputs: tuple[str, ...]
    any_library: bool
    line: int | None


class Reader:
    """Measures observations for `scores`."""

    def __init__(self, scores: Sequence[ScoreLike]) -> None:
        self.scores = list(scores)
        self._known: dict[tuple[str, ...], tuple[list[Reading], set[str]]] = {}

    @cached_property
    def _lines(self) -> np.ndarray | None:
        """(scores,) which line of `one_pass` each score is of logits and labels; None if a score is none."""
        readings = [_reading(score, ("logits", "labels")) for score in self.scores]
        lines = [-1 if reading is None or reading.line is None else reading.line for reading in readings]
        return np.array(lines) if lines and min(lines) >= 0 else None

    def matrix(self, logits: Array, labels: Array) -> np.ndarray | None:
        """The values of all scores at once, (scores, batch) float32, in their order; the same as `measure` gives one by one.

        None where it takes `measure`: where one pass does not find them all, or where these are no NumPy logits and classes.
        """
        return None if self._lines is None else lines_of(logits, labels, self._lines)

    @cached_property
    def inputs(self) -> tuple[frozenset[str], frozenset[str]]:
        """Two sets of observation names: those that any score takes, and those of scores without a substitute for them.

        Built-in scores that can take logits and labels have a substitute, so their names are not in the second set.
        """
        names = {s.name: frozenset(chain(*s.inputs, getattr(s, "optional", ()))) for s in self.scores}
        others = [s.name for s in self.scores if not (is_built_in(s) and ("logits", "labels") in s.inputs)]
        return frozenset().union(*names.values()), frozenset().union(*(names[name] for name in others))

    def measure(self, observation: Mapping[str, Array]) -> dict[str, Array]:
        """Measure an observation: score name -> (batch,), on the observation's device.

        For arrays on the host that require no gradient, built-in scores give NumPy arrays. Raises `InvalidValue` if the
        observation feeds no score.
        """
        given = {name: as_array(array) for name, array in observation.items()}
        readings, near = self._known.get(tuple(given)) or self._learn(tuple(given))
        values = {}
        with shared():
            hand = {name: at_hand(given[name]) for name in near}
            # Asked once here, because each measure would ask again, which takes longer than the kernel does.
            lines = one_pass(hand["logits"], hand["labels"]) if "logits" in hand and "labels" in hand else None
            for reading in readings:
                if lines is not None and reading.line is not None:
                    values[reading.name] = lines[reading.line]
                elif reading.any_library:
                    values[reading.name] = reading.measure(**{name: hand[name] for name in reading.inputs})
                else:
                    values[reading.name] = as_array(reading.measure(**{name: given[name] for name in reading.inputs}))
        return values

    def _learn(self, names: tuple[str, ...]) -> tuple[list[Reading], set[str]]:
        """The readings for an observation with these names, and which of the names built-in scores take.

        Remembers both. Raises `InvalidValue` if no score can be measured.
        """
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
    """How a score is measured from these names: by the first of its alternatives that is complete; None if none is.

    A custom measure also takes those of its optional parameters that are among the names.
    """
    inputs = next((some for some in score.inputs if set(some) <= set(names)), None)
    if inputs is None:
        return None
    optional = getattr(score, "optional", ()) if len(score.inputs) == 1 else ()
    inputs += tuple(name for name in optional if name in names)
    return Reading(score.name, score.measure, inputs, is_built_in(score), _line(score, inputs))


def _line(score: ScoreLike, inputs: tuple[str, ...]) -> int | None:
    own = is_built_in(score) and set(inputs) <= {"logits", "labels"} and not getattr(score, "squared", False)
    return _LINES.get(str(getattr(score, "kind", None))) if own else None


def is_built_in(score: ScoreLike) -> bool:
    """Whether the score's measure is one of this package's.

    Those take arrays of any library, and understand logits as one number per class, to be normalised by a softmax.
    """
    return str(getattr(getattr(type(score), "measure", None), "__module__", "")).startswith(OURS)
