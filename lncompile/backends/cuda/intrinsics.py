"""The kernel language for CUDA: what emitted kernels call, as inline LLVM instructions and PTX.

A value is a vector of a few lanes in one thread's registers; what is the same for all elements of a row has
one lane. The names that the CPU's kernels use too mean the same (``lncompile/emit/standins.py``).
"""

from __future__ import annotations

from lncompile.backends.cuda.arithmetic import (  # noqa: F401
    absolute,
    erf,
    exp,
    fma,
    log,
    maximum,
    minimum,
    rounding_error,
    rsqrt,
    sigmoid,
    sqrt,
    square,
    tanh,
)
from lncompile.backends.cuda.indices import (  # noqa: F401
    at_most,
    quotient,
    remainder,
    unrolled_never,
)
from lncompile.backends.cuda.memory import (  # noqa: F401
    advance,
    is_given,
    load,
    load_constant,
    load_once,
    store,
)
from lncompile.backends.cuda.rows import (  # noqa: F401
    fits_float32,
    is_finite,
    is_moderate,
    largest,
    total,
)
from lncompile.backends.cuda.shared import (  # noqa: F401
    get_float32,
    get_float32_of_block,
    get_float64,
    get_float64_of_block,
    get_vector,
    put,
    put_vector,
    share_float32,
    share_float64,
)
from lncompile.backends.cuda.threads import (  # noqa: F401
    all_of_warp,
    barrier,
    block_index,
    cluster_barrier,
    thread_index,
    warp_largest,
    warp_total,
)
from lncompile.backends.cuda.values import (  # noqa: F401
    as_bfloat16,
    as_float16,
    as_float32,
    as_float64,
    f32x,
    f64x,
    first,
    keep,
    pushed,
    where,
)
