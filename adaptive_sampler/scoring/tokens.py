"""Tokens: how many tokens of a document its other scores are means over."""

from dataclasses import dataclass

import array_api_compat

from adaptive_sampler.arrays import Array, as_array, on_host
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring.base import Fold, Inputs, Named, register
from adaptive_sampler.scoring.folds import Last

MOST = 1 << 24  # float32 has every whole number up to this one


@register("tokens")
@dataclass(frozen=True, kw_only=True)
class Tokens(Named):
    """The number of a document's counted tokens at the last observation: what its mean loss is a mean over.

    The observation must have it as `tokens`. Multiplied by the mean it gives the sum, so that documents of different
    lengths can be compared by either.
    """

    fold: Fold = Last()
    name: str = ""

    @property
    def inputs(self) -> Inputs:
        return (("tokens",),)

    def measure(self, tokens: Array) -> Array:
        """(batch,) integers, 0 … 2²⁴ -> (batch,) float32, which has each of them exactly.

        Raises `InvalidValue` for another dtype; for another number on the host, and gives NaN for it on a device.
        """
        tokens = as_array(tokens)
        xp = array_api_compat.array_namespace(tokens)
        if not xp.isdtype(tokens.dtype, "integral"):
            raise InvalidValue(
                f"tokens have dtype {tokens.dtype}: counts are integers. Count the mask that counts them, mask.sum(1)."
            )
        free = on_host(tokens)
        if free or tokens.dtype not in (xp.int32, xp.int64):  # uint8 cannot be compared with 2²⁴
            tokens = xp.astype(tokens, xp.int64 if free else xp.int32)
        wrong = (tokens < 0) | (tokens > MOST)
        if not free:
            counts = xp.astype(tokens, xp.float32)
            return xp.where(wrong, xp.full_like(counts, xp.nan), counts)
        if bool(xp.any(wrong)):
            raise InvalidValue(
                f"a document of {int(tokens[wrong][0])} tokens: a count is 0 … {MOST}, the whole numbers that float32 has. "
                "Cut longer documents into several rows."
            )
        return xp.astype(tokens, xp.float32)
