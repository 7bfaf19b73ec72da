"""What the processor has instructions for and Python no spelling: bits counted and found, 64 comparisons as one word.

Each has a twin in `plain`, of the same name, which kernels call where Numba or LLVM no longer understands what is here.
"""

from importlib import import_module
from typing import Any

from adaptive_sampler.kernels import plain
from adaptive_sampler.kernels.jit import Intrinsic, instructions


class _Late:
    """A module that is imported when something of it is first asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._name), name)


numba, ir = _Late("numba"), _Late("llvmlite.ir")
LANES = 64  # elements that one call looks at
SQUARE = 8  # rows and columns that one call transposes
_BYTES = 4  # of an element
_IN_ANY_ORDER = ("reassoc", "nsz")  # none of these flags lets LLVM take for granted that there is no NaN or inf


@instructions(plain.popcount)
def popcount(typing_context: Any, word: Any) -> Any:
    """Set bits of a uint64, as an int64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return numba.types.int64(numba.types.uint64), generate


@instructions(plain.lowest)
def lowest(typing_context: Any, word: Any) -> Any:
    """Position of the lowest set bit of a uint64 that is not 0, as an int64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return numba.types.int64(numba.types.uint64), generate


@instructions(plain.lowbias32)
def lowbias32(typing_context: Any, word: Any, out: Any) -> Any:
    """Write 32-bit hashes of 64 lanes, 0 … 63, into `out`, uint32; `word`, a uint64, is the key of them all.

    Wellons' lowbias32, with half of the key before and half between its multiplications. In 32-bit lanes, as every
    processor has them: LLVM would do what Python can spell in 64 bits, half as many at a time.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def shifted(x: Any, by: int) -> Any:
            return builder.xor(x, builder.lshr(x, _words([by] * LANES)))

        def times(x: Any, factor: int) -> Any:
            return builder.mul(x, _words([factor] * LANES))

        lower = builder.trunc(args[0], ir.IntType(32))
        upper = builder.trunc(builder.lshr(args[0], ir.Constant(ir.IntType(64), 32)), ir.IntType(32))
        x = builder.add(_words([i * 0x9E3779B9 % 2**32 for i in range(LANES)]), _spread(builder, lower))
        x = builder.xor(times(shifted(x, 16), 0x7FEB352D), _spread(builder, upper))
        x = shifted(times(shifted(x, 15), 0x846CA68B), 16)
        builder.store(x, _lanes_of(context, builder, signature.args[1], args[1], x.type), align=_BYTES)
        return context.get_dummy_value()

    return numba.types.none(numba.types.uint64, out), generate


@instructions(plain.float32_of)
def float32_of(typing_context: Any, bits: Any) -> Any:
    """The float32 with the bits of this uint32."""
    return _reread(numba.types.float32, numba.types.uint32)


@instructions(plain.float64_of)
def float64_of(typing_context: Any, bits: Any) -> Any:
    """The float64 with the bits of this uint64."""
    return _reread(numba.types.float64, numba.types.uint64)


@instructions(plain.bits_of_float32)
def bits_of_float32(typing_context: Any, value: Any) -> Any:
    """The bits of a float32, as a uint32."""
    return _reread(numba.types.uint32, numba.types.float32)


@instructions(plain.bits_of_float64)
def bits_of_float64(typing_context: Any, value: Any) -> Any:
    """The bits of a float64, as a uint64."""
    return _reread(numba.types.uint64, numba.types.float64)


@instructions(plain.multiply_add)
def multiply_add(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """a · b + c of three float32, rounded once where the processor has an instruction for it, else twice."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        once = (
            "contract",
        )  # lets LLVM join the two; asked for the instruction itself, it would call a function instead
        return builder.fadd(builder.fmul(args[0], args[1], flags=once), args[2], flags=once)

    return numba.types.float32(*[numba.types.float32] * 3), generate


@instructions(plain.larger)
def larger(typing_context: Any, a: Any, b: Any) -> Any:
    """The larger of two floats, `b` where one is a NaN: without a branch, which would keep a loop from going in lanes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[0], args[1])

    return a(a, b), generate


@instructions(plain.highest)
def highest(typing_context: Any, a: Any, b: Any) -> Any:
    """The larger of two floats, a NaN where one is; of 0 and −0 either. A loop that asks only for this goes in lanes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        largest = builder.module.declare_intrinsic("llvm.maximum", [kind], ir.FunctionType(kind, [kind, kind]))
        return builder.call(largest, args, fastmath=("nsz",))

    return a(a, b), generate


@instructions(plain.add)
def add(typing_context: Any, total: Any, a: Any) -> Any:
    """total + a of two float32, where a loop may take its terms in any order, and so in lanes. NaN and inf count as ever."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fadd(args[0], args[1], flags=_IN_ANY_ORDER)

    return numba.types.float32(*[numba.types.float32] * 2), generate


@instructions(plain.add_product)
def add_product(typing_context: Any, total: Any, a: Any, b: Any) -> Any:
    """total + a · b of three float32, rounded once or twice, as `add`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        product = builder.fmul(args[1], args[2], flags=("contract",))
        return builder.fadd(args[0], product, flags=("contract", *_IN_ANY_ORDER))

    return numba.types.float32(*[numba.types.float32] * 3), generate


@instructions(plain.wide)
def wide(typing_context: Any) -> Any:
    """Have LLVM use the widest lanes that the processor has in the loops of this kernel, in which they are worth it.

    On processors of Intel's it would use half of AVX-512, as the full one slowed the first of them down.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')  # llvmlite's own `add` knows only some
        return context.get_dummy_value()

    return numba.types.none(), generate


@instructions(plain.lent)
def lent(typing_context: Any, array: Any) -> Any:
    """The array without the count of who holds it, for a kernel whose caller holds it: each slice of it costs two atomic
    operations less, as much as a hundred sums.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found = context.make_array(signature.args[0])(context, builder, args[0])
        found.meminfo, found.parent = (ir.Constant(held.type, None) for held in (found.meminfo, found.parent))
        return found._getvalue()

    return array(array), generate


@instructions(plain.transpose)
def transpose(typing_context: Any, rows: Any, i: Any, j: Any, columns: Any) -> Any:
    """Write 8 × 8 elements of `rows`, from [i, j] on, transposed into `columns`, from [j, i] on; both are C-contiguous."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        element = context.get_data_type(signature.args[0].dtype)
        whole, half = ir.VectorType(element, SQUARE), ir.VectorType(element, SQUARE // 2)
        given, written = (_places(context, builder, signature.args[n], args[n]) for n in (0, 3))
        places = written(args[2], args[1], whole)
        for begin in (0, SQUARE // 2):
            right = builder.add(args[2], ir.Constant(args[2].type, begin))
            halves = [builder.load(place, align=_BYTES) for place in given(args[1], right, half)]
            joined = [
                builder.shuffle_vector(*pair, _words([*range(SQUARE)]))
                for pair in zip(halves, halves[4:], strict=False)
            ]
            for column, place in zip(_turned(builder, joined), places[begin:], strict=False):
                builder.store(column, place, align=_BYTES)
        return context.get_dummy_value()

    return numba.types.none(rows, numba.types.int64, numba.types.int64, columns), generate


def _turned(builder: Any, lines: list[Any]) -> list[Any]:
    """Four vectors, each of four elements of a row and of the row four below, as four columns of eight.

    No element leaves its half, which processors do faster than to move it to the other.
    """
    picks = [_words([x + half + more for half in (0, 4) for x in (0, 8, 1, 9)]) for more in (0, 2)]
    for _ in range(2):
        pairs = (lines[0], lines[2]), (lines[1], lines[3])
        lines = [builder.shuffle_vector(*pair, pick) for pair in pairs for pick in picks]
    return lines


def _places(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """(i, j, lanes) -> where in a matrix such lanes begin, in 8 rows from i on, at j."""
    matrix = context.make_array(kind)(context, builder, array)
    width = builder.extract_value(matrix.shape, 1)

    def places(i: Any, j: Any, lanes: Any) -> list[Any]:
        rows = [builder.add(i, ir.Constant(i.type, n)) for n in range(SQUARE)]
        begin = [builder.gep(matrix.data, [builder.add(builder.mul(row, width), j)]) for row in rows]
        return [builder.bitcast(place, lanes.as_pointer()) for place in begin]

    return places


def _reread(into: Any, given: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return into(given), generate


def _comparison(name: str, operator: str) -> Any:
    """(block, bound) -> uint64: bit i says whether block[i] stands so to the bound; of a NaN it never does.

    `block`: the 64 elements from the beginning of an array on, float32 or uint32.
    """

    def compare(typing_context: Any, block: Any, bound: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            bounds = _spread(builder, args[1])
            place = _lanes_of(context, builder, signature.args[0], args[0], bounds.type)
            ordered = isinstance(block.dtype, numba.types.Float)
            said = (builder.fcmp_ordered if ordered else builder.icmp_unsigned)(
                operator, builder.load(place, align=_BYTES), bounds
            )
            return builder.bitcast(said, ir.IntType(LANES))

        return numba.types.uint64(block, block.dtype), generate

    compare.__name__ = name
    return Intrinsic(compare, getattr(plain, name))


def _words(each: list[int]) -> Any:
    """A constant of lanes of 32 bits."""
    return ir.Constant(ir.VectorType(ir.IntType(32), len(each)), each)


def _spread(builder: Any, value: Any) -> Any:
    """The value in every lane."""
    nowhere = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    first = builder.insert_element(nowhere, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, first, _words([0] * LANES))


def _lanes_of(context: Any, builder: Any, kind: Any, array: Any, lanes: Any) -> Any:
    """Where the first 64 elements of an array lie."""
    return builder.bitcast(context.make_array(kind)(context, builder, array).data, lanes.as_pointer())


below, above, equal = _comparison("below", "<"), _comparison("above", ">"), _comparison("equal", "==")
at_least, at_most = _comparison("at_least", ">="), _comparison("at_most", "<=")
