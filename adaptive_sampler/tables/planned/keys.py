"""What a plan of a table visits, asked by key: for streams that have no store."""

from typing import Any

import numpy as np

from adaptive_sampler.arrays import as_rows, library
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.tables.planned.looked_up import LookUp
from adaptive_sampler.tables.planned.reading import plan_of

WEIGHT = "loss_weight"


class PlannedKeys:
    """Says of each key whether a plan of a table visits it, how often, and with which loss weight.

    `source`: what `plan_table` returned, or the folder that its `write` made. The keys are those that the table was planned by:
    text, or row numbers. They are found by sorted 64-bit hashes and then compared themselves. All that lies in files in a temporary
    folder, about 30 bytes a key and its text, which processes of the machine map into memory and share: making the object takes
    about 32 bytes of memory a key, sending it to a worker a few hundred in all. The folder is deleted with the object that made it.

    `id`: the plan's; `num_samples`: its visits; `len(planned)`: its keys. Raises `InvalidValue` for what is no plan, and
    `StoreDamaged` for a plan that is not as it was written, also if a key comes twice in it.
    """

    def __init__(self, source: Any) -> None:
        plan = plan_of(source)
        self.id, self.num_samples = plan.id, plan.num_samples
        self._look_up = LookUp.of(plan)

    def __len__(self) -> int:
        return len(self._look_up)

    def __contains__(self, key: Any) -> bool:
        return bool(self._find([key])[0] >= 0)

    def __repr__(self) -> str:
        return f"PlannedKeys({self.id}: {len(self)} keys, {self.num_samples} samples)"

    def repeats(self, keys: Any) -> np.ndarray:
        """How often the plan visits each key, (keys,) int64; 0 for one that it does not have.

        `keys`: a list or array of text or, of a table that was planned by row numbers, of integers; of Arrow too. Raises
        `InvalidValue` for keys of the other kind, and for a null.
        """
        return self._look_up.repeats_of(self._find(keys))

    def weights(self, keys: Any) -> np.ndarray:
        """The loss weight of each key, (keys,) float32; 0 for one that the plan does not have. `keys`: as in `repeats`."""
        return self._look_up.weights_of(self._find(keys))

    def visited(self, table: Any, *, key: str = "key") -> Any:
        """The lines of a pyarrow.Table (or RecordBatch) that the plan visits, each as often as it does, in their order.

        `key`: the column with the keys. The column loss_weight is added, float32. Raises `InvalidValue` if there is no column
        `key` or already one loss_weight, for columns whose lines PyArrow cannot pick, and as `repeats` does.
        """
        import pyarrow as pa

        names = table.schema.names
        if names.count(key) != 1 or WEIGHT in names:
            raise InvalidValue(
                f"the table has the columns {', '.join(names)}: name the one with the keys by key=, and rename or drop one that is "
                f"called {WEIGHT}, which is added."
            )
        found = self._find(table.column(key))
        lines = np.repeat(np.arange(len(found)), self._look_up.repeats_of(found))
        weights = self._look_up.weights_of(found[lines])
        try:
            picked = table.take(pa.array(lines))
        except pa.ArrowNotImplementedError as error:  # of string_view, in PyArrow 26
            raise InvalidValue(
                f"PyArrow cannot pick lines of this table: {error}. Cast such columns, string_view to large_string, first."
            ) from error
        return picked.append_column(WEIGHT, pa.array(weights))

    def _find(self, keys: Any) -> np.ndarray:
        """The place of each key among the plan's, (keys,) int64; −1 for one that the plan does not have."""
        if hasattr(keys, "__arrow_c_stream__") or hasattr(keys, "__arrow_c_array__"):
            return self._look_up.find(_of_arrow(keys))
        numbers = keys if library(keys) else list(keys)
        if library(keys) and np.asarray(keys).dtype.kind in "OUT":
            numbers = np.asarray(keys).tolist()
        if isinstance(numbers, list) and (not numbers or isinstance(numbers[0], str)):
            return self._look_up.find(numbers)
        return self._look_up.find(as_rows(numbers, len(self)))


def _of_arrow(keys: Any) -> Any:
    """The keys in an Arrow array: a `KeyMap`, in which one may come twice, or row numbers, (keys,) int64."""
    import pyarrow as pa

    from adaptive_sampler.tables.arrow import columns as arrow

    array = pa.chunked_array(keys).combine_chunks() if hasattr(keys, "__arrow_c_stream__") else pa.array(keys)
    kind = arrow.ROW if arrow.ROW.fits(array.type) else arrow.KEYS
    if not kind.fits(array.type):
        raise InvalidValue(f"the keys are {array.type}: {arrow.KEYS.words}; or row numbers, which are integers.")
    try:
        return kind.convert(array)
    except arrow.Fault as fault:
        raise InvalidValue(f"line {fault.position} {arrow.FIRST_IS_0}: the key {fault.words}") from fault
