"""A loader whose batches come without their rows: as long as the loader, and iterated as often as the loop likes."""

from collections.abc import Callable, Generator, Iterator
from typing import Any


class Watched(Iterator[Any]):
    """Yields the samples of `loader` without their rows. Each iteration is one pass, which counts as an epoch.

    `len`, and any attribute that is not found here, are the loader's, so progress bars and loops that ask for the length
    work as with the loader itself; `len` raises TypeError where the loader has none. `next` draws from the current pass,
    and `close` ends it, as the next iteration does.
    """

    def __init__(self, loader: Any, begin: Callable[[], Generator[Any, None, None]]) -> None:
        """`begin()` gives the samples of a new pass over `loader`."""
        self._loader, self._begin = loader, begin
        self._pass: Generator[Any, None, None] | None = begin()  # at once: it counts among those that may yet deliver
        self._iterated = False  # whether a loop iterates the current pass, or has done so

    def __iter__(self) -> Generator[Any, None, None]:
        if self._pass is None or self._iterated:
            self._pass = self._begin()  # a pass that a loop left early ends here
        self._iterated = True
        return self._pass

    def __next__(self) -> Any:
        return next(self._pass or iter(self))

    def __len__(self) -> int:
        return len(self._loader)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_loader" not in vars(self):  # a copy that is not complete yet
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._loader, name)

    def close(self) -> None:
        """End the current pass: the rows of its last batch are forgotten."""
        if self._pass is not None:
            self._pass.close()
