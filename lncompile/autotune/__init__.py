"""The tuner: tries schedules for one specialization on this machine, and keeps the best in the store.

    space --prune--> schedules --workers--> kernels --same bits?--> contenders --search--> record in the store

Nothing of the compiler is imported before something is tuned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lncompile.autotune.record import Tuning


def tune(
    norm: Any,
    shape: Sequence[int],
    dtype: Any = "float32",
    *,
    target: str = "cpu",
    out_dtype: Any = None,
    any_bits: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
    **options: Any,
) -> Tuning:
    """Search the schedule with which ``norm`` is fastest on this machine, and use it from now on.

    It is kept in the store of kernels and found there by every later process that compiles the same norm for
    the same features, dtypes and constants on such a machine; kernels that ``lnc.compile`` gave before stay
    as they are. It is the heuristic's unless another one is faster beyond doubt, forward and backward
    together, and in neither slower. Results keep their bits, unless ``any_bits`` allows schedules that add
    up in another order; a row's result still depends on that row alone.

    With the target ``cuda`` kernels run on CuPy's current device; what is found serves the devices of its
    architecture on this machine, and nothing is chosen whose code spills registers.

    Args:
        norm: what ``lnc.norm`` made.
        shape: of the first argument, batch sizes as they are in use; time is measured with it.
        dtype: as for ``lnc.compile``, as are ``target``, ``out_dtype`` and ``options``.
        any_bits: try schedules that change roundings too.
        progress: called with what is being done, how much of it is done and of how much.

    Raises:
        LncError: an argument does not fit, or this machine does not execute the target's code.
        KeyboardInterrupt: Ctrl-C. What is known by then is kept; the next run goes on from there.
    """
    from lncompile.autotune.tuner import Tuner

    return Tuner(norm, shape, dtype, target, out_dtype, any_bits, options).run(progress or _silent)


def _silent(what: str, done: int, of: int) -> None:
    pass
