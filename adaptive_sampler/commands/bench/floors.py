"""Each kernel beside what the machine's memory allows: the bytes it must move, or the random places it must read.

A formula counts what any algorithm of the kind must move: inputs read once, outputs written once, one more read and
write where entries have to change places. So a share of 1 is the machine's limit, and a kernel that makes do with the
caches can be above it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.commands.bench import probes
from adaptive_sampler.commands.bench.base import Row, Turn
from adaptive_sampler.commands.bench.data import losses
from adaptive_sampler.commands.bench.turns import take_turns
from adaptive_sampler.kernels import bits, draw, race, runs, select
from adaptive_sampler.kernels.runs import Runs
from adaptive_sampler.kernels.shuffle import Network, Shuffle
from adaptive_sampler.scoring import Loss
from adaptive_sampler.store import ScoreStore

CASE = "kernels, and what the machine's memory allows"
LOW = 0.5  # below this share of the limit the table says why
BATCH = 1 << 16  # rows folded at once: the loop, not the call, is what is measured
_PIECE = 1 << 20


@dataclass(frozen=True)
class Floor:
    """A kernel, what it must move for n rows, and why it may take longer than that.

    moved: bytes read and written; or, where `footprint` is given, reads at random places of so many bytes.
    """

    name: str
    setup: Callable[[int], Turn]
    moved: Callable[[int], int]
    why: str
    footprint: Callable[[int], int] | None = None

    def measure(self, n: int, rounds: int) -> Row:
        """Kernel and memory in turns -> the row of the table; share: the memory's time over the kernel's."""
        moved = max(2, self.moved(n))
        probe = probes.gather(moved, self.footprint(n)) if self.footprint else probes.copy(moved)
        s = take_turns({"kernel": self.setup(n), "memory": probe}, rounds)
        share = s["memory"] / s["kernel"]
        speed = s["memory"] / moved
        return {
            "case": CASE,
            "n": n,
            "kernel": self.name,
            "s": s["kernel"],
            "moves": f"{moved:,} reads" if self.footprint else f"{moved / 1e6:.3g} MB",
            "memory's limit": f"{speed * 1e9:.3g} ns a read" if self.footprint else f"{1e-9 / speed:.3g} GB/s",
            "share of it": share,
            "why": self.why if share < LOW else "",
        }


def measure(names: list[str], n: int, rounds: int) -> list[Row]:
    """The rows of these kernels at one size."""
    return [floor.measure(n, rounds) for floor in FLOORS if floor.name in names]


def _half(n: int) -> NDArray[np.uint8]:
    """A bitmap with half the rows set, at random."""
    return select.hash_window(n, 0, n // 2, salt=1)


def _fold(n: int) -> Turn:
    store = ScoreStore.create(None, n, [Loss()])
    rng = np.random.default_rng(0)
    rows = rng.integers(0, n, BATCH)
    values = rng.random(BATCH, np.float32)
    return lambda: store.fold("loss", rows, values, epoch=1)


def _select(distinct: int) -> Callable[[int], Turn]:
    def setup(n: int) -> Turn:
        keys = losses(n, distinct)
        return lambda: select.rank_window(keys, 0, n // 2, salt=1, ties="random")

    return setup


def _shuffle(n: int) -> Turn:
    rows = np.arange(min(n, _PIECE), dtype=bits.row_dtype(n))

    def turn() -> None:
        shuffle = Shuffle(n, bits.row_dtype(n), key=1)
        for first in range(0, n, _PIECE):
            shuffle.add(rows[: n - first])
        shuffle.finish()

    return turn


def _walk(n: int) -> Turn:
    index, ranks = bits.Index(_half(n), n), _places(n, n // 2)
    return lambda: index.select(ranks)


def _walk_runs(n: int) -> Turn:
    runs = Runs(np.random.default_rng(0).integers(1, 4, n).astype(np.uint8))
    places = _places(n, runs.total)
    return lambda: runs.locate(places)


def _listed(n: int) -> Turn:
    kept = _half(n)
    return lambda: bits.narrow_rows(kept, n)


def _drawn(n: int) -> Turn:
    weights = losses(n)
    return lambda: draw.multinomial_counts(weights, n, key=1)


def _raced(n: int) -> Turn:
    weights = losses(n)
    return lambda: race.sample_without_replacement(weights, n // 2, key=1)


def _occupied(n: int) -> Turn:
    counts = draw.multinomial_counts(losses(n), n, key=1)
    return lambda: runs.occupied(counts.copy())


def _tested(n: int) -> Turn:
    kept, rows = _half(n), _places(n, n)
    return lambda: bits.test(kept, rows)


def _places(n: int, end: int) -> NDArray[np.int64]:
    return np.random.default_rng(2).integers(0, max(1, end), max(1, n // 16))


FLOORS = (
    Floor(
        "fold a value into 65,536 random rows",
        _fold,
        lambda n: 2 * BATCH,  # a row's count and last epoch, side by side, and its value
        "It reads, computes and writes at each place, checks rows and values before it changes any, and marks chunks.",
        lambda n: 12 * n,
    ),
    Floor(
        "select the top half",
        _select(0),
        lambda n: 4 * n + n // 8,  # keys read, bits written
        "It sorts a sample first to guess the cut, and makes three comparisons of each key.",
    ),
    Floor(
        "select the top half of five distinct scores",
        _select(5),
        lambda n: 4 * n + n // 8,
        "Ties are cut by a hash of the row, five comparisons of hash and key decide, and the keys are read twice.",
    ),
    Floor(
        "select half at random",
        lambda n: lambda: _half(n),
        lambda n: n // 8,  # bits written, nothing read
        "There is next to nothing to move: the time is a hash for each row.",
    ),
    Floor(
        "list the rows of a bitmap",
        _listed,
        lambda n: 2 * (n // 8) + 4 * (n // 2),  # bits read, to count and to list; rows written
        "Each set bit is found by two instructions that wait for one another, and half the bits are set at random.",
    ),
    Floor(
        "shuffle",
        _shuffle,
        lambda n: 12 * n,  # each entry written to its bucket, then read and written inside it
        "Two random numbers an entry, and the swaps inside a bucket wait for the second-level cache.",
    ),
    Floor(
        "permute positions, no array",
        lambda n: lambda: Network(n, key=1).images(0, min(n, _PIECE)),
        lambda n: 8 * min(n, _PIECE),  # images written, nothing read
        "It is arithmetic: eight rounds of four multiplications for each position, so that no array need exist.",
    ),
    Floor(
        "walk a bitmap at random",
        _walk,
        lambda n: 2 * max(1, n // 16),  # the block's count and its words
        "Each rank is looked up in a hint, a few block counts and two words, and then found within a word.",
        lambda n: n // 8 + n // 32,
    ),
    Floor(
        "walk repeats at random",
        _walk_runs,
        lambda n: 2 * max(1, n // 16),  # the block's count and its words
        "Each place is looked up in a block's count and two words, whose bits are masked and counted: arithmetic beside the reads.",
        lambda n: n // 4 + n // 16,  # about 2n occurrences: a bit each, set at a row's last one, and the blocks' counts
    ),
    Floor(
        "test rows against a bitmap",
        _tested,
        lambda n: max(1, n // 16),
        "A shift and a mask come on top of each read, and the bitmap mostly lies in a cache, where reads are cheap.",
        lambda n: n // 8,
    ),
    Floor(
        "draw n with replacement",
        _drawn,
        lambda n: 12 * n,  # weights read for their sum and for the counts, counts written
        "Each row's Poisson count is a random number, an exponential and a dozen steps, whatever it is: arithmetic, not memory.",
    ),
    Floor(
        "draw n/2 without replacement",
        _raced,
        lambda n: 4 * n + n // 8,  # weights read, bits written
        "Each row's arrival is a random number and a logarithm: arithmetic, not memory. Those in doubt are found one by one.",
    ),
    Floor(
        "pack counts into a bitmap and repeats",
        _occupied,
        lambda n: 8 * n + n // 8 + n,  # counts read twice, bits and repeats written
        "Which counts are 0 is not predictable, so that each is stored and only some advance the place.",
    ),
)
