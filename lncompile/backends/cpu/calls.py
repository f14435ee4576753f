"""Calling a compiled library: its entry points, and what takes over where they cannot be used.

An entry point does everything in native code: it checks its arrays, returns NotImplemented for whatever it
does not accept, and otherwise executes the phase. Here is the same in Python on top of ctypes, for processes
whose objects it cannot read, and for work that Python threads split because there is no OpenMP.
"""

from __future__ import annotations

import ast
import ctypes
import functools
import math
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from lncompile.backends.cpu import runtime
from lncompile.dtypes import TABLE
from lncompile.errors import CompilerBug
from lncompile.interface import WRITTEN, Buffer, Call, Phase

if TYPE_CHECKING:
    from concurrent.futures import Executor

Array: TypeAlias = "np.ndarray[Any, Any]"
T = TypeVar("T")


class PhaseRunner:
    """One phase of a loaded library.

    Attributes:
        phase: what it does.
        entry: takes one array (or None) for each of the phase's buffers, in order, by position alone. Returns
            None when it has executed the phase, and NotImplemented when it has done nothing: the arrays do
            not fit, or Python threads are to do the work.
    """

    def __init__(self, library: ctypes.CDLL, phase: Phase) -> None:
        """Prepare the calls of ``phase``, whose functions ``library`` exports.

        Raises:
            LncValueError: the number of threads in the environment is not one.
            LncTypeError: the package that brings a dtype is not installed.
        """
        runtime.fill_dtypes(buffer.dtype for buffer in phase.buffers)
        self.phase = phase
        self._library = library
        self._functions = [_c_function(library, call, phase) for call in phase.calls]
        self.entry: Callable[..., object] = self._checked_entry
        if runtime.self_test():
            address = ctypes.cast(library[phase.entry], ctypes.c_void_p).value
            assert address is not None
            parameters = ", ".join(buffer.name for buffer in phase.buffers)
            self.entry = runtime.make_entry(address, phase.entry, f"{phase.entry}({parameters}, /)")

    def run(self, arrays: Sequence[Array | None]) -> None:
        """Execute the phase on arrays that fit it, in whatever way this process allows.

        Args:
            arrays: one for each buffer of the phase, in order: C-contiguous, aligned, in native byte order,
                of the buffer's dtype and shape; None for an optional one that is left out.

        Raises:
            CompilerBug: an array does not fit; none has been written to.
        """
        if self.entry(*arrays) is None:
            return
        arrays = [*arrays, *[None] * (len(self.phase.buffers) - len(arrays))]
        sizes = accepts(self.phase, arrays)
        if sizes is None:
            raise CompilerBug(f"{self.phase.entry}: the arrays do not fit: {[_describe(a) for a in arrays]}")
        self._execute(arrays, sizes)

    def _checked_entry(self, *arrays: object) -> object:
        sizes = accepts(self.phase, arrays)
        if sizes is None:
            return NotImplemented
        self._execute([*arrays, *[None] * (len(self.phase.buffers) - len(arrays))], sizes)  # type: ignore[list-item]
        return None

    def _execute(self, arrays: Sequence[Array | None], sizes: dict[str, int]) -> None:
        pointers = {
            buffer.name: None if array is None else array.ctypes.data
            for buffer, array in zip(self.phase.buffers, arrays, strict=True)
        }
        for call, function in zip(self.phase.calls, self._functions, strict=True):
            arguments = [pointers[name] for name in call.buffers] + list(sizes.values())
            units = evaluated(call.units, sizes)
            threads = min(units, runtime.python_threads(units * evaluated(call.unit_work, sizes)))
            if threads <= 1:
                function(*arguments, 0, units)
                continue
            shares = [(units * t // threads, units * (t + 1) // threads) for t in range(threads)]
            others = [
                _pool(threads - 1).submit(_share, function, arguments, arrays, *share) for share in shares[1:]
            ]
            function(*arguments, *shares[0])
            for other in others:
                other.result()


def accepts(phase: Phase, arrays: Sequence[object]) -> dict[str, int] | None:
    """What an entry point checks: the sizes by name if ``arrays`` are what it takes, else None."""
    if not required_count(phase) <= len(arrays) <= len(phase.buffers):
        return None
    arrays = [*arrays, *[None] * (len(phase.buffers) - len(arrays))]
    fitting: list[Array | None] = []
    for buffer, array in zip(phase.buffers, arrays, strict=True):
        if array is None and (buffer.optional or buffer.role == "absent"):
            fitting.append(None)
        elif type(array) is np.ndarray and buffer.role != "absent" and _fits(buffer, array):
            fitting.append(array)
        else:
            return None
    return None if overlapping(phase, fitting) else bind(phase, fitting)


def required_count(phase: Phase) -> int:
    """How many arguments an entry point takes at least: optional ones at the end may be left out."""
    firm = [at for at, buffer in enumerate(phase.buffers) if not buffer.optional and buffer.role != "absent"]
    return firm[-1] + 1 if firm else 0


def bind(phase: Phase, arrays: Sequence[Array | None]) -> dict[str, int] | None:
    """The phase's sizes by name, in order, from the shapes of its arrays.

    Args:
        arrays: one for each buffer of the phase, in order; None for those that are left out or not made yet.

    Returns:
        None if a shape does not match the buffer's or another array's, if a workspace is too small, or if no
        array tells a size.
    """
    axes = match_axes(phase, arrays)
    if axes is None or any(axis not in axes for size in phase.sizes for axis in size.axes):
        return None
    sizes = {
        size.name: size.factor * math.prod(n for axis in size.axes for n in axes[axis])
        for size in phase.sizes
    }
    for buffer, array in zip(phase.buffers, arrays, strict=True):
        if buffer.role != "workspace" or array is None:
            continue
        if array.ndim != 1 or array.size < workspace_elements(buffer, sizes):
            return None
    return sizes


def match_axes(phase: Phase, arrays: Sequence[Array | None]) -> dict[str, tuple[int, ...]] | None:
    """The sizes that each batch axis stands for, any number for ``"..."``; otherwise like :func:`bind`."""
    if len(arrays) != len(phase.buffers):
        return None
    axes: dict[str, tuple[int, ...]] = {}
    for buffer, array in zip(phase.buffers, arrays, strict=True):
        if array is None or buffer.role == "workspace":
            continue
        pairs = _pair(buffer.dims, array.shape)
        if pairs is None:
            return None
        for dim, sizes in pairs:
            if sizes != ((dim,) if isinstance(dim, int) else axes.setdefault(dim, sizes)):
                return None
    return axes


def workspace_elements(workspace: Buffer, sizes: dict[str, int]) -> int:
    """The number of elements that ``workspace`` must have at least, for these sizes by name."""

    return evaluated(workspace_expression(workspace), sizes)


def evaluated(expression: str, sizes: dict[str, int]) -> int:
    """The value of a C expression for these sizes by name."""

    def leaf(value: int | str) -> int:
        return value if isinstance(value, int) else sizes[value]

    return fold(expression, leaf, _operate)


def workspace_expression(workspace: Buffer) -> str:
    """The C expression of its number of elements."""
    if len(workspace.dims) != 1:
        raise CompilerBug(f"{workspace.name}: a workspace has one dimension, not {workspace.dims}")
    return str(workspace.dims[0])


def overlapping(phase: Phase, arrays: Sequence[Array | None]) -> tuple[str, str] | None:
    """The names of the first two C-contiguous arrays whose overlap would spoil a result, if any do."""
    given = [(b, a) for b, a in zip(phase.buffers, arrays, strict=True) if a is not None]
    for (first, a), (second, b) in combinations(given, 2):
        # Compares the bounds alone, which is exact for contiguous arrays; empty ones share nothing.
        if {first.role, second.role}.isdisjoint(WRITTEN) or not np.may_share_memory(a, b):
            continue
        same = a.ctypes.data == b.ctypes.data
        if not (same and (may_coincide(phase, first, second) or may_coincide(phase, second, first))):
            return first.name, second.name
    return None


def may_coincide(phase: Phase, written: Buffer, read: Buffer) -> bool:
    """Whether ``written`` may be the very array that is given for ``read``.

    A unit of a call reads what it needs of an array over the same axes before it writes to the same elements,
    so within one call both may be the same, unless units share what they read. And no later call may read
    what has been written over.
    """
    if written.role not in ("output", "gradient") or read.role not in ("input", "cotangent"):
        return False
    if (
        written.dims != read.dims
        or written.axes != read.axes
        or written.dtype != read.dtype
        or all(isinstance(dim, int) for dim in written.dims)
    ):
        return False
    writing = [index for index, call in enumerate(phase.calls) if written.name in call.buffers]
    if any(read.name in phase.calls[index].shared for index in writing):
        return False
    reading = [index for index, call in enumerate(phase.calls) if read.name in call.buffers]
    return not writing or not reading or reading[-1] <= writing[0]


def fold(expression: str, leaf: Callable[[int | str], T], operate: Callable[[str, T, T], T]) -> T:
    """Evaluate a C expression of ``+ - * / ( )``, integers and names.

    Args:
        leaf: the value of an integer or a name.
        operate: the value of ``left operator right``; ``/`` truncates.

    Raises:
        CompilerBug: the expression has anything else in it.
    """

    def visit(node: ast.expr) -> T:
        match node:
            case ast.Constant(int(value)):
                return leaf(value)
            case ast.Name(name):
                return leaf(name)
            case ast.BinOp(left, operator, right) if type(operator) in _OPERATORS:
                return operate(_OPERATORS[type(operator)], visit(left), visit(right))
            case ast.UnaryOp(ast.USub(), operand):
                return operate("-", leaf(0), visit(operand))
        raise CompilerBug(f"not an expression of sizes: {expression!r}")

    return visit(_parsed(expression))


_OPERATORS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


@functools.cache
def _parsed(expression: str) -> ast.expr:
    return ast.parse(expression, mode="eval").body


def _operate(operator: str, left: int, right: int) -> int:
    match operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _pair(
    dims: tuple[int | str, ...], shape: tuple[int, ...]
) -> list[tuple[int | str, tuple[int, ...]]] | None:
    """Each of ``dims`` with the sizes in ``shape`` that it stands for; None if their numbers differ."""
    pieces: list[tuple[int, ...]] = [(size,) for size in shape]
    if "..." in dims:
        begin = dims.index("...")
        end = len(shape) - (len(dims) - begin - 1)
        if end < begin:
            return None
        pieces[begin:end] = [shape[begin:end]]
    return list(zip(dims, pieces, strict=True)) if len(dims) == len(pieces) else None


def _fits(buffer: Buffer, array: Array) -> bool:
    flags = array.flags
    return (
        array.dtype.num == TABLE[buffer.dtype].numpy.num
        and array.dtype.isnative
        and flags.c_contiguous
        and flags.aligned
        and (flags.writeable or buffer.role not in WRITTEN)
    )


def _c_function(library: ctypes.CDLL, call: Call, phase: Phase) -> Callable[..., int]:
    # A subscript makes a new object each time: two calls may have one function and other argument types.
    function = library[call.function]
    function.argtypes = [ctypes.c_void_p] * len(call.buffers) + [ctypes.c_int64] * (len(phase.sizes) + 2)
    function.restype = ctypes.c_int32
    return function


def _share(function: Callable[..., int], arguments: list[Any], arrays: object, begin: int, end: int) -> None:
    """One thread's part of a call; holds ``arrays``, since Ctrl-C may have ended the caller."""
    function(*arguments, begin, end)


@functools.lru_cache(maxsize=1)
def _pool(workers: int) -> Executor:
    from concurrent.futures import ThreadPoolExecutor  # 5 ms that few processes need

    return ThreadPoolExecutor(workers, thread_name_prefix="lncompile")


def _describe(array: Array | None) -> str:
    return "None" if array is None else f"{array.dtype}{list(array.shape)}"
