"""``lnc.norm``: equations as callables that compile themselves for the arrays they are given.

What the decorator returns is an ordinary Python function, since nothing in Python is called faster: 50 ns,
against 200 for an object with ``__call__``. It hands its arguments to the native entry point of the kernel
that served the last call; whatever that does not accept takes the path through :class:`Dispatcher`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, update_wrapper
from types import CodeType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lncompile import arrays as arr
from lncompile import axes as ax
from lncompile.backends.cuda.target import is_cuda
from lncompile.dtypes import named
from lncompile.equation import Equation, read_equation
from lncompile.errors import LncTypeError, LncValueError
from lncompile.kernel import Context, refuse, target_of
from lncompile.specialization import Specialization, constants_of, exactly
from lncompile.specialize import build_kernel, compiling, signature_of

if TYPE_CHECKING:
    from lncompile.device_kernel import AnyKernel


class Norm(Protocol):
    """A normalization: what :func:`norm` makes of an equation."""

    __name__: str
    __qualname__: str

    def __hash__(self) -> int:
        """That of a function: every norm is its own."""

    def __call__(self, *arrays: Any, out: Any = None, **options: Any) -> Any:
        """The output (a tuple where the equation returns one) for NumPy arrays.

        Array arguments go by position or keyword; ``options`` are the equation's constants, sizes of split
        axes by the axis' name, and ``out_dtype`` (else it is the first argument's). ``out`` receives the
        result and is returned. Raises ``LncError``.
        """

    def forward(self, *arrays: Any, out: Any = None, **options: Any) -> tuple[Any, Context]:
        """Like a call, and the context that :meth:`backward` needs."""

    def backward(self, dy: Any, ctx: Context, out: Any = None) -> Any:
        """The gradients: a named tuple, one field an array argument, None for one that was left out.

        ``dy`` is like the output (a tuple where there are several, None for one that nothing comes in
        through); ``out`` is an earlier result to write to.
        """

    def over(self, pattern: str) -> Norm:
        """The same equation on another pattern: ``layer_norm.over("n h w [c]")``, each made once.

        Parameters follow where one feature axis is renamed or gives way to several; their other axes must
        be axes of the new pattern too.
        """


#: Kernels that calls with the same options are tried on before the slow path: a network has few shapes.
_RECENT = 8
#: Different options that recent kernels are kept for.
_OPTIONS = 64
#: What ``...`` is in the name of a norm, whose dots separate attributes.
_DOTS = "…"

# Names that begin with an underscore cannot clash: ``_checked_names`` refuses them as arguments.
_WRAPPERS = """
def call({parameters}, *, out=None, **_options):
    if not _options:
        _kernel = _state.kernel
        _made = _kernel.new({first}) if out is None else out
        if isinstance(_made, tuple):
            if len(_made) == _kernel.count and _kernel.entry({names}, *_made) is None:
                return _made
        elif _kernel.into({names}, _made) is None:
            return _made
        _made = None
    return _slow_call(({names},), out, _options)


def forward({parameters}, *, out=None, **_options):
    if not _options:
        _result = _state.kernel.try_forward(({names},), out)
        if _result is not None:
            return _result
    return _slow_forward(({names},), out, _options)
"""


class _NoKernel:
    """What a norm has before its first call: accepts nothing."""

    count = -1
    into = entry = staticmethod(refuse)

    def new(self, _: object) -> None:
        """No arrays."""

    def try_forward(self, *_: object) -> None:
        """No result."""


class Dispatcher:
    """The kernels of one equation, and the way to the right one.

    ``kernel`` is the one that served the last call without options: calls try it first. Any kernel that
    accepts the arguments is the right one, since what tells kernels apart, options aside, is what entry
    points check.
    """

    def __init__(self, equation: Equation) -> None:
        self.equation = equation
        self.signature = signature_of(equation)
        self.kernel: AnyKernel | _NoKernel = _NoKernel()
        self._kernels: dict[tuple[object, ...], AnyKernel] = {}
        self._recent: dict[tuple[object, ...], tuple[AnyKernel, ...]] = {}
        self._defaults: tuple[tuple[str, Any], ...] | None = None
        #: The function that calls these kernels.
        self.norm: Any = None

    def call(self, values: tuple[object, ...], out: object, options: dict[str, Any]) -> Any:
        """The slow path of a call: other recent kernels, then conversion, compilation or an error."""
        key = exactly(tuple(options.items()))
        for kernel in self._recent.get(key, ()):
            result = kernel.try_call(values, out)
            if result is not NotImplemented:
                self._remember(kernel, key)
                return result
        kernel, arrays = self._serving(values, options, key)
        return kernel.call(arrays, out)

    def forward(
        self, values: tuple[object, ...], out: object, options: dict[str, Any]
    ) -> tuple[Any, Context]:
        """The outputs and the context, for arguments that the last kernel did not accept."""
        key = exactly(tuple(options.items()))
        for kernel in self._recent.get(key, ()):
            result = kernel.try_forward(values, out)
            if result is not None:
                self._remember(kernel, key)
                return result
        kernel, arrays = self._serving(values, options, key)
        return kernel.forward(arrays, out)

    def backward(self, dy: object, ctx: Context, out: object = None) -> Any:
        """The gradients as a named tuple, or ``out``."""
        if not isinstance(ctx, Context) or not self.knows(ctx.kernel):
            raise LncTypeError(
                f"ctx: expected the context of a forward of {self.equation.name}; got {arr.described(ctx)}"
            )
        gradients = ctx.kernel.try_backward(dy, ctx, out)
        return ctx.kernel.backward(dy, ctx, out) if gradients is None else gradients

    def kernel_for(
        self, values: tuple[object, ...], options: dict[str, Any]
    ) -> tuple[AnyKernel, list[arr.Array | None]]:
        """The kernel for these arguments, compiled if need be, and the arguments as arrays."""
        arrays = self.signature.checked(values)
        dtypes = {
            name: arr.dtype_name(name, array)
            for name, array in zip(self.signature.arguments, arrays, strict=True)
            if array is not None
        }
        sizes = self.signature.solve(arrays, self.given_sizes(options))
        return self.compiled(self.specialization(dtypes, sizes, options, target_of(arrays))), arrays

    def specialization(
        self, dtypes: dict[str, str], sizes: ax.Sizes, options: Mapping[str, Any], target: str = "cpu"
    ) -> Specialization:
        """What the code for these arguments is specialised on."""
        fixed = self.equation.fixed
        if sizes.get(ax.ELLIPSIS) == () and self.equation.pattern.dims[0] != (ax.ELLIPSIS,):
            # No dimensions between or behind others: known when compiling, so that no loop goes over nothing.
            fixed = (*fixed, *({ax.ELLIPSIS} - set(fixed)))
        if is_cuda(target):
            # A device's accesses are wide only where it is known that every row is made of whole ones.
            fixed = (*fixed, *({self.equation.pattern.axes[-1]} - set(fixed) if len(sizes) > 1 else ()))
        out_dtype = options.get("out_dtype")
        return Specialization(
            tuple(dtypes.items()),
            tuple((name, ax.count(name, sizes)) for name in fixed),
            self._constants(options),
            None if out_dtype is None else named(out_dtype, "out_dtype"),
            target,
            dots if isinstance(dots := sizes.get(ax.ELLIPSIS), tuple) and ax.ELLIPSIS in fixed else (),
        )

    def compiled(self, special: Specialization) -> AnyKernel:
        """The kernel for a specialization, compiled once whatever number of threads ask for it."""
        key = special.key
        found = self._kernels.get(key)
        if found is None:
            with compiling():
                found = self._kernels.get(key)
                if found is None:
                    found = build_kernel(self.equation, self.signature, special)
                    found.made_by = _kernel_of, (self.norm, special)
                    self._kernels[key] = found
        return found

    def forget(self, special: Specialization) -> None:
        """Fetch the kernel of a specialization anew when it is needed next."""
        with compiling():
            self._kernels.pop(special.key, None)
            self._recent.clear()
            self.kernel = _NoKernel()

    def knows(self, kernel: AnyKernel) -> bool:
        """Whether ``kernel`` is one of this norm's."""
        return kernel.signature is self.signature

    def given_sizes(self, options: Mapping[str, Any]) -> dict[str, int]:
        """The options that are sizes of axes, or nothing that is known."""
        return {
            name: int(value) if isinstance(value, np.integer) else value
            for name, value in options.items()
            if name not in self.equation.constants and name != "out_dtype"
        }

    def _serving(
        self, values: tuple[object, ...], options: dict[str, Any], key: tuple[object, ...]
    ) -> tuple[AnyKernel, list[arr.Array | None]]:
        kernel, arrays = self.kernel_for(values, options)
        self._remember(kernel, key)
        return kernel, arrays

    def _remember(self, kernel: AnyKernel, key: tuple[object, ...]) -> None:
        """Try ``kernel`` first from now on, in calls with these options."""
        recent = self._recent.get(key, ())
        if recent[:1] != (kernel,):
            if not recent and len(self._recent) == _OPTIONS:
                self._recent.clear()
            self._recent[key] = (kernel, *(other for other in recent if other is not kernel))[:_RECENT]
        if not key:
            self.kernel = kernel

    def _constants(self, options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
        if any(name in options for name in self.equation.constants):
            return constants_of(self.equation, options)
        if self._defaults is None:
            self._defaults = constants_of(self.equation, {})
        return self._defaults


def norm(pattern: str, /, **axes: str) -> Callable[[Callable[..., Any]], Norm]:
    """Make a normalization of an equation.

    ``pattern`` names the axes of the first argument, feature axes in brackets; the keyword arguments name
    those of the other array arguments, in their order in memory::

        @lnc.norm("... [d]", weight="d")
        def rms_norm(x, weight=1.0, *, eps=1e-5):
            return x * lnc.rsqrt(lnc.mean(lnc.square(x)) + eps) * weight

    Raises ``LncError`` with the equation's file and line where pattern and parameters do not fit together.
    """
    if callable(pattern):
        code = getattr(pattern, "__code__", None)
        where = f"{code.co_filename}:{code.co_firstlineno}: " if code else ""
        raise LncTypeError(
            f"{where}lnc.norm: expected a pattern; got the function. Write @lnc.norm('... [d]'), with the "
            "axes of further array arguments by name"
        )

    def decorate(function: Callable[..., Any]) -> Norm:
        return make_norm(read_equation(function, pattern, axes), axes)

    return decorate


def make_norm(equation: Equation, axes: Mapping[str, str]) -> Norm:
    """The callable for an equation that was read."""
    _check_names(equation)
    dispatcher = Dispatcher(equation)
    dispatcher.norm = call = wrapped(dispatcher)
    update_wrapper(call, equation.function)
    call.over = Over(call, equation, axes)
    return call  # type: ignore[no-any-return]


class Over:
    """``norm.over``: the same equation on other patterns, each made once.

    Its norms are its attributes too, ``layer_norm.over.('n h w [c]')``: Python pickles a function as the
    name that leads to it.
    """

    def __init__(self, norm: Any, equation: Equation, axes: Mapping[str, str]) -> None:
        self._norm = norm
        self._equation = equation
        self._axes = axes
        self._made: dict[str, Norm] = {}

    def __call__(self, pattern: str) -> Norm:
        """The norm on ``pattern``; ``LncError`` where it does not fit the equation."""
        found = self._made.get(pattern) if isinstance(pattern, str) else None
        if found is None:
            renamed = renamed_axes(self._equation.pattern, ax.parse(pattern), self._axes)
            made = make_norm(read_equation(self._equation.function, pattern, renamed), renamed)
            name = pattern.replace(ax.ELLIPSIS, _DOTS)
            made.__qualname__ = f"{self._norm.__qualname__}.over.('{name}')"
            found = self._made.setdefault(pattern, made)
        return found

    def __getattr__(self, name: str) -> Norm:
        if not (name.startswith("('") and name.endswith("')")):
            raise AttributeError(f"norm.over has no attribute {name!r}")
        return self(name[2:-2].replace(_DOTS, ax.ELLIPSIS))

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self._norm, "over")


def _kernel_of(norm: Any, special: Specialization) -> AnyKernel:
    return dispatcher_of(norm).compiled(special)


def wrapped(dispatcher: Dispatcher) -> Any:
    """The function that calls a dispatcher's kernels, with ``forward`` and ``backward``.

    It has the equation's own array parameters: the quickest way for Python to bind them.
    """
    arguments = dispatcher.equation.arguments
    text = _WRAPPERS.format(
        parameters=", ".join(a.name if a.required else f"{a.name}=None" for a in arguments),
        names=", ".join(a.name for a in arguments),
        first=arguments[0].name,
    )
    namespace = {"_state": dispatcher, "_slow_call": dispatcher.call, "_slow_forward": dispatcher.forward}
    exec(_compiled(text), namespace)
    call: Any = namespace["call"]
    call.forward, call.backward = namespace["forward"], dispatcher.backward
    call.lnc_dispatcher = dispatcher
    return call


@cache
def _compiled(text: str) -> CodeType:
    """The code of wrappers, made once for all norms with the same parameters: it takes 0.2 ms."""
    return compile(text, "<lnc.norm>", "exec")


def dispatcher_of(value: object) -> Dispatcher:
    """The dispatcher of a norm; ``LncError`` for anything else."""
    found = getattr(value, "lnc_dispatcher", None)
    if not isinstance(found, Dispatcher):
        raise LncTypeError(f"norm: expected a function decorated with lnc.norm; got {value!r}")
    return found


def renamed_axes(old: ax.Pattern, new: ax.Pattern, axes: Mapping[str, str]) -> dict[str, str]:
    """The axes of the other arguments on a new pattern.

    Where one feature axis is renamed, or gives way to several, they follow: ``d`` becomes ``c``, or ``h w``.
    Batch axes ``...`` give way to those that the new pattern has in their place. An argument with the axes of
    the first one, a residual, stays like it.
    """
    follow = _renamed_features(old, new)
    dots = ax.ELLIPSIS in old.axes and ax.ELLIPSIS not in old.features
    if dots and ax.ELLIPSIS not in new.axes:
        follow[ax.ELLIPSIS] = [name for name in new.axes if name not in new.features | set(old.axes)]

    def replaced(dim: ax.Dim) -> list[ax.Dim]:
        if len(dim) == 1:
            return [(name,) for name in follow.get(dim[0], dim)]
        return [tuple(other for name in dim for other in follow.get(name, [name]))]

    def renamed(dims: tuple[ax.Dim, ...]) -> tuple[ax.Dim, ...]:
        followed = tuple(r for dim in dims for r in replaced(dim))
        there = all(name in new.axes for dim in followed for name in dim)
        return new.dims if dims == old.dims and (dots or not there) else followed

    return {argument: ax.show(renamed(ax.parse(text, argument).dims)) for argument, text in axes.items()}


def _renamed_features(old: ax.Pattern, new: ax.Pattern) -> dict[str, list[str]]:
    """The feature axis that ``new`` lacks, if it is one, and the feature axes that took its place.

    ``... [d]`` and ``n [h w]`` -> d: h w. Beside one with a name, a feature ``...`` may give way too where
    splits tell them apart: ``n (g [c]) [...]`` and ``n (g [k]) [h w]`` -> c: k.
    """
    gone = [name for name in old.axes if name in old.features and name not in new.axes]
    come = [name for name in new.axes if name in new.features and name not in old.axes]
    if len(gone) == 2 and ax.ELLIPSIS in gone:
        gone.remove(ax.ELLIPSIS)
        beside = _beside(gone[0], old)
        come = [name for name in come if beside & _beside(name, new)]
    return {gone[0]: come} if len(gone) == 1 and come else {}


def _beside(name: str, pattern: ax.Pattern) -> set[str]:
    """The other axes of the dimension that ``name`` is part of."""
    return {other for dim in pattern.dims if name in dim for other in dim if other != name}


def _check_names(equation: Equation) -> None:
    """Refuse names that calls, or the named tuple of gradients, have another use for."""
    arguments = [argument.name for argument in equation.arguments]
    for name in (*arguments, *equation.constants, *equation.pattern.axes):
        where = f"{equation.where}: in {equation.name}: {name!r}"
        if name in ("out", "out_dtype"):
            raise LncValueError(f"{where} is a parameter of every norm's; choose another name")
        if name.startswith("_") and name in arguments:
            raise LncValueError(f"{where}: the name of an array cannot begin with an underscore")
