"""The names in kernels for CUDA that are not an equation's: words of the language, and variables.

``backends/cuda/intrinsics.py`` says what each word means; they are apart from it, so that source is emitted
where numba-cuda is not installed.
"""

from __future__ import annotations

from itertools import product

from lncompile.schedule.cuda import MOST_VECTORS

WORDS = (
    "absolute",
    "advance",
    "all_of_warp",
    "as_bfloat16",
    "as_float16",
    "as_float32",
    "as_float64",
    "at_most",
    "barrier",
    "block_index",
    "cluster_barrier",
    "erf",
    "exp",
    "f32x",
    "f64x",
    "first",
    "fits_float32",
    "fma",
    "get_float32",
    "get_float32_of_block",
    "get_float64",
    "get_float64_of_block",
    "get_vector",
    "is_finite",
    "is_given",
    "is_moderate",
    "keep",
    "largest",
    "load",
    "load_constant",
    "load_once",
    "log",
    "maximum",
    "minimum",
    "pushed",
    "put",
    "put_vector",
    "quotient",
    "remainder",
    "rounding_error",
    "rsqrt",
    "share_float32",
    "share_float64",
    "sigmoid",
    "sqrt",
    "square",
    "store",
    "tanh",
    "thread_index",
    "total",
    "warp_largest",
    "warp_total",
    "unrolled_never",
    "where",
)

_PARTS = range(MOST_VECTORS)
#: All names that kernels use for themselves, beside those that the CPU's use too.
RESERVED = frozenset(
    (
        *WORDS,
        *("team", "member", "there", "has_unit", "turn", "_turn", "step"),
        *(f"{name}_{part}" for name in ("i", "inside") for part in _PARTS),
    )
)
#: What kernels append to the name of an array or a value: to tell what of it is meant, whether it is of the
#: second path, and which number of it.
_MEANT = ("", "_value", "_start")
_PATHS = ("", "_wide")
_NUMBERS = (
    *("", "_i", "_lanes", *(f"_i{part}" for part in _PARTS)),
    *("_first", "_pivot", "_offset", "_offsets", "_sums", "_squares", "_shift", "_spread"),
)
_POINTERS = ("_row", "_at", "_out")


def suffixes(starts: int) -> tuple[str, ...]:
    """All that kernels append to names, which read so many first elements of rows."""
    meant = (*_MEANT, *(f"_start_{start}" for start in range(2, starts + 1)))
    made = ("".join(three) for three in product(meant, _PATHS, _NUMBERS))
    return (*(suffix for suffix in made if suffix), *_POINTERS)
