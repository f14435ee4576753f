"""``lnc.norm``: equations as callables that compile themselves for the arrays they are given.

What the decorator returns is an ordinary Python function, since nothing in Python is called faster: 50 ns, against
200 for an object with ``__call__``. It hands its arguments to the native entry point of the kernel that served the
last call; whatever that does not accept takes the path through :class:`Dispatcher`.
"""

from __future__ import annotations

import keyword
import threading
from collections.abc import Callable, Mapping
from functools import update_wrapper
from typing import Any, Protocol

import numpy as np

from lncompile import arrays as arr
from lncompile import axes as ax
from lncompile.dtypes import TABLE, named
from lncompile.errors import LncTypeError, LncValueError
from lncompile.kernel import Context, Kernel
from lncompile.specialize import Specialization, build_kernel, constants_of, signature_of
from lncompile.trace import Equation, read_equation


class Norm(Protocol):
    """A normalization: what :func:`norm` makes of an equation."""

    __name__: str

    def __call__(self, *arrays: Any, out: Any = None, **options: Any) -> Any:
        """The output (a tuple where the equation returns one) for NumPy arrays.

        Array arguments go by position or keyword; ``options`` are the equation's constants, sizes of split axes
        by the axis' name, and ``out_dtype``. ``out`` receives the result and is returned. Raises ``LncError``.
        """

    def forward(self, *arrays: Any, out: Any = None, **options: Any) -> tuple[Any, Context]:
        """Like a call, and the context that :meth:`backward` needs."""

    def backward(self, dy: Any, ctx: Context, out: Any = None) -> Any:
        """The gradients as a named tuple with a field for each array argument, None for one that was left out."""

    def over(self, pattern: str) -> Norm:
        """The same equation on another pattern; parameters follow a renamed feature axis."""


#: Kernels of one norm that calls are tried on before the slow path: a network has few shapes.
_RECENT = 8

_WRAPPER = '''
def {name}({parameters}, *, out=None, **options):
    if not options:
        if out is None:
            made = allocate({first})
            if state.entry({names}, made) is None:
                return made
        elif out.__class__ is tuple:
            if state.entry({names}, *out) is None:
                return out
        elif state.entry({names}, out) is None:
            return out
    return slow(({names},), out, options)
'''


class Dispatcher:
    """The kernels of one equation, and the way to the right one."""

    def __init__(self, equation: Equation) -> None:
        self.equation = equation
        self.signature = signature_of(equation)
        self.kernels: dict[Specialization, Kernel] = {}
        self.recent: tuple[Kernel, ...] = ()
        self.defaults: tuple[tuple[str, Any], ...] | None = None
        self.lock = threading.Lock()
        self.entry: Callable[..., object] = _nothing_yet
        self.result: np.dtype[Any] | None = None

    def allocate(self, x: Any) -> Any:
        """A new output for the kernel that is tried next; None, which no kernel takes, where that needs more than x."""
        if self.result is not None and type(x) is np.ndarray:
            return np.empty(x.shape, self.result)
        return None

    def call(self, values: tuple[object, ...], out: object, options: dict[str, Any]) -> Any:
        """The slow path of a call: other recent kernels, then conversion, compilation or an error."""
        if not options:
            for kernel in self.recent[1:]:
                made = self._made_for(kernel, values[0]) if out is None else out
                results = made if type(made) is tuple else (made,)
                if kernel.forward_runner.entry(*values, *results) is None:
                    self.remember(kernel)
                    return made
        kernel, arrays = self.kernel_for(values, options)
        return kernel.call(arrays, out)

    def forward(self, values: tuple[object, ...], out: object, options: dict[str, Any]) -> tuple[Any, Context]:
        """The outputs and the context."""
        kernel, arrays = self.kernel_for(values, options)
        return kernel.forward(arrays, out)

    def kernel_for(self, values: tuple[object, ...], options: dict[str, Any]) -> tuple[Kernel, list[arr.Array | None]]:
        arrays = self.signature.checked(values)
        special = self.specialization(
            {
                name: arr.dtype_name(name, array)
                for name, array in zip(self.signature.arguments, arrays, strict=True)
                if array is not None
            },
            self.signature.solve(arrays, self._given_sizes(options)),
            options,
        )
        kernel = self.kernel(special)
        if not options:
            self.remember(kernel)
        return kernel, arrays

    def specialization(self, dtypes: dict[str, str], sizes: ax.Sizes, options: dict[str, Any], target: str = "cpu") -> Specialization:
        """What the code for these arguments is specialised on."""
        pattern = self.equation.pattern
        split = {name for dim in pattern.dims if len(dim) > 1 for name in dim}
        fixed = [name for name in pattern.axes if name in pattern.features | split]
        out_dtype = options.get("out_dtype")
        return Specialization(
            tuple(dtypes.items()),
            tuple((name, ax.count(name, sizes)) for name in fixed),
            self._constants(options),
            None if out_dtype is None else named(out_dtype, "out_dtype"),
            target,
        )

    def kernel(self, special: Specialization) -> Kernel:
        """The kernel for a specialization, compiled once whatever number of threads ask for it."""
        found = self.kernels.get(special)
        if found is None:
            with self.lock:
                found = self.kernels.get(special)
                if found is None:
                    found = build_kernel(self.equation, self.signature, special)
                    self.kernels[special] = found
        return found

    def knows(self, kernel: Kernel) -> bool:
        """Whether ``kernel`` is one of this norm's."""
        return kernel.signature is self.signature

    def _given_sizes(self, options: Mapping[str, Any]) -> dict[str, int]:
        return {
            name: value for name, value in options.items() if name not in self.equation.constants and name != "out_dtype"
        }

    def _constants(self, options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
        if any(name in options for name in self.equation.constants) or self.defaults is None:
            constants = constants_of(self.equation, options)
            if not any(name in options for name in self.equation.constants):
                self.defaults = constants
            return constants
        return self.defaults

    def remember(self, kernel: Kernel) -> None:
        """Try ``kernel`` first from now on."""
        self.recent = (kernel, *(other for other in self.recent if other is not kernel))[:_RECENT]
        self.result = _like_first(kernel)
        self.entry = kernel.forward_runner.entry

    def _made_for(self, kernel: Kernel, x: object) -> object:
        dtype = _like_first(kernel)
        return np.empty(x.shape, dtype) if dtype is not None and type(x) is np.ndarray else None


def norm(pattern: str, /, **axes: str) -> Callable[[Callable[..., Any]], Norm]:
    """Make a normalization of an equation.

    ``pattern`` names the axes of the first argument, feature axes in brackets; the keyword arguments name those
    of the other array arguments, in their order in memory::

        @lnc.norm("... [d]", weight="d")
        def rms_norm(x, weight=1.0, *, eps=1e-5):
            return x * lnc.rsqrt(lnc.mean(lnc.square(x)) + eps) * weight

    Raises ``LncError`` with the equation's file and line where pattern and parameters do not fit together.
    """

    def decorate(function: Callable[..., Any]) -> Norm:
        return make_norm(read_equation(function, pattern, axes), axes)

    return decorate


def make_norm(equation: Equation, axes: Mapping[str, str]) -> Norm:
    """The callable for an equation that was read."""
    dispatcher = Dispatcher(equation)
    call = wrapped(dispatcher)

    def over(other: str) -> Norm:
        renamed = renamed_axes(equation.pattern, ax.parse(other), axes)
        return make_norm(read_equation(equation.function, other, renamed), renamed)

    update_wrapper(call, equation.function)
    call.over = over
    return call  # type: ignore[no-any-return]


def wrapped(dispatcher: Dispatcher) -> Any:
    """The function that calls a dispatcher's kernels, with ``forward`` and ``backward``."""
    call = _compiled_wrapper(dispatcher)

    def forward(*arrays: Any, out: Any = None, **options: Any) -> tuple[Any, Context]:
        return dispatcher.forward(_bound(dispatcher, arrays, options), out, options)

    def backward(dy: Any, ctx: Context, out: Any = None) -> Any:
        if not isinstance(ctx, Context) or not dispatcher.knows(ctx.kernel):
            raise LncTypeError(f"ctx: expected the context of a forward of {dispatcher.equation.name}; got {ctx!r}")
        return ctx.kernel.backward(dy, ctx, out)

    call.forward, call.backward = forward, backward
    call.lnc_dispatcher = dispatcher
    return call


def dispatcher_of(value: object) -> Dispatcher:
    """The dispatcher of a norm; ``LncError`` for anything else."""
    found = getattr(value, "lnc_dispatcher", None)
    if not isinstance(found, Dispatcher):
        raise LncTypeError(f"norm: expected a function decorated with lnc.norm; got {value!r}")
    return found


def renamed_axes(old: ax.Pattern, new: ax.Pattern, axes: Mapping[str, str]) -> dict[str, str]:
    """The axes of the other arguments on a new pattern: where one feature axis is renamed, they follow."""
    gone = [name for name in old.axes if name in old.features and name not in new.axes]
    come = [name for name in new.axes if name in new.features and name not in old.axes]
    if len(gone) != 1 or len(come) != 1:
        return dict(axes)
    (before,), (after,) = gone, come
    return {
        argument: ax.show(
            tuple(tuple(after if name == before else name for name in dim) for dim in ax.parse(text, argument).dims)
        )
        for argument, text in axes.items()
    }


def _compiled_wrapper(dispatcher: Dispatcher) -> Any:
    """A Python function with the equation's own array parameters: the quickest way to the native entry point."""
    arguments = dispatcher.equation.arguments
    taken = {a.name for a in arguments}
    if {"out", "options", "made", "state", "allocate", "slow"} & taken or any(keyword.iskeyword(n) for n in taken):
        clash = sorted({"out", "options", "made", "state", "allocate", "slow"} & taken)
        raise LncValueError(f"{dispatcher.equation.where}: in {dispatcher.equation.name}: an argument cannot be called {clash[0]!r}")
    parameters = ", ".join(a.name if a.required else f"{a.name}=None" for a in arguments)
    names = ", ".join(a.name for a in arguments)
    text = _WRAPPER.format(name=dispatcher.equation.name, parameters=parameters, names=names, first=arguments[0].name)
    namespace: dict[str, Any] = {"state": dispatcher, "allocate": dispatcher.allocate, "slow": dispatcher.call}
    exec(text, namespace)
    return namespace[dispatcher.equation.name]


def _bound(dispatcher: Dispatcher, given: tuple[Any, ...], options: dict[str, Any]) -> tuple[object, ...]:
    """The array arguments by position; those given by keyword are taken out of ``options``."""
    names = dispatcher.signature.arguments
    name = dispatcher.equation.name
    if len(given) > len(names):
        raise LncTypeError(f"{name}: takes {len(names)} arrays ({', '.join(names)}); got {len(given)}")
    values = list(given)
    for argument in names[: len(given)]:
        if argument in options:
            raise LncTypeError(f"{argument}: given by position and by keyword")
    for argument in names[len(given) :]:
        if argument not in options and argument not in dispatcher.signature.optional:
            raise LncTypeError(f"{argument}: {name} needs this array")
        values.append(options.pop(argument, None))
    return tuple(values)


def _like_first(kernel: Kernel) -> np.dtype[Any] | None:
    """The dtype of a single output as large as the first argument; None where outputs are anything else."""
    buffers = kernel.interface.forward.buffers
    outputs = [buffer for buffer in buffers if buffer.role == "output"]
    if kernel.returns_tuple or len(outputs) != 1 or outputs[0].dims != buffers[0].dims:
        return None
    return TABLE[outputs[0].dtype].numpy


def _nothing_yet(*_: object) -> object:
    return NotImplemented
