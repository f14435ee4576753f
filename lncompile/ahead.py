"""``lnc.compile``: one kernel for one specialization, made before the first call."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from lncompile import arrays as arr
from lncompile import axes as ax
from lncompile.backends.cuda.target import is_cuda
from lncompile.errors import LncTypeError, LncValueError
from lncompile.interface import Interface
from lncompile.kernel import Context
from lncompile.norm import Dispatcher, dispatcher_of, wrapped
from lncompile.requested import requested
from lncompile.specialize import Specialization

if TYPE_CHECKING:
    from lncompile.device_kernel import AnyKernel


class CompiledKernel(Protocol):
    """What :func:`compile` returns: a callable for the features, dtypes and constants that it was made for.

    Any number of rows is accepted.
    """

    stages: Mapping[str, str]
    target: str
    interface: Interface

    def __call__(self, *arrays: Any, out: Any = None) -> Any:
        """The output for arrays that fit; ``LncError`` for others."""

    def forward(self, *arrays: Any, out: Any = None) -> tuple[Any, Context]:
        """The output, and the context that :meth:`backward` needs."""

    def backward(self, dy: Any, ctx: Context, out: Any = None) -> Any:
        """The gradients as a named tuple."""


def compile(
    norm: Any,
    *,
    shape: Sequence[int],
    dtype: Any = "float32",
    target: str = "cpu",
    out_dtype: Any = None,
    **options: Any,
) -> CompiledKernel:
    """Compile ``norm`` for arrays like a first argument of ``shape``.

    ``dtype`` is one dtype for all arguments or a mapping by argument name, in which None leaves an optional
    argument out and those not mentioned have the first argument's; ``out_dtype`` is that of the outputs, else
    the first argument's. ``options`` are the equation's constants and the sizes of split axes. Batch sizes in
    ``shape`` do not matter. ``target``: ``cpu`` is this machine,
    ``cuda`` the current device.

    Raises ``LncError`` naming what does not fit. Kernels for another CPU can be inspected (``stages``), not
    called. Those for CUDA are made without a device; ``launches`` and ``buffers`` tell what they launch.
    """
    dispatcher = dispatcher_of(norm)
    special, _ = requested(dispatcher, shape, dtype, target, out_dtype, options)
    kernel = dispatcher.compiled(special)
    fixed = _Fixed(dispatcher, special, kernel)
    call = wrapped(fixed)
    call.__doc__ = dispatcher.equation.function.__doc__
    call.stages, call.target, call.interface = kernel.stages, kernel.target, kernel.interface
    if is_cuda(target):
        from lncompile.device_kernel import DeviceKernel

        assert isinstance(kernel, DeviceKernel), "a kernel for CUDA is one for a device"
        sizes = tuple(map(operator.index, shape))
        call.launches, call.buffers = kernel.launches(sizes), kernel.buffers(sizes)
    return call  # type: ignore[no-any-return]


class _Fixed(Dispatcher):
    """A dispatcher that knows one kernel and compiles nothing."""

    def __init__(self, parent: Dispatcher, special: Specialization, kernel: AnyKernel) -> None:
        super().__init__(parent.equation)
        self.signature = parent.signature
        self.kernel: AnyKernel = kernel
        self._special = special

    def knows(self, kernel: AnyKernel) -> bool:
        """Whether ``kernel`` is this one."""
        return kernel is self.kernel

    def kernel_for(
        self, values: tuple[object, ...], options: dict[str, Any]
    ) -> tuple[AnyKernel, list[arr.Array | None]]:
        """The kernel, if the arguments are what it was compiled for."""
        for name in options:
            raise LncTypeError(f"{name}: a compiled kernel takes arrays alone; its constants are compiled in")
        arrays = self.signature.checked(values)
        self._check_dtypes(arrays)
        self._check_sizes(arrays)
        return self.kernel, arrays

    def _check_dtypes(self, arrays: Sequence[arr.Array | None]) -> None:
        dtypes = dict(self._special.dtypes)
        for name, array in zip(self.signature.arguments, arrays, strict=True):
            expected = dtypes.get(name)
            if (expected is None) != (array is None):
                was, came = ("without", "an array") if expected is None else ("with", "None")
                raise LncTypeError(f"{name}: this kernel was compiled {was} it; got {came}")
            if array is not None and arr.dtype_name(name, array) != expected:
                raise LncTypeError(f"{name}: this kernel was compiled for {expected}; got {array.dtype}")

    def _check_sizes(self, arrays: Sequence[arr.Array | None]) -> None:
        compiled = dict(self._special.sizes)
        solved = self.signature.solve(arrays, {name: compiled[name] for name in self.equation.split})
        for name, size in compiled.items():
            if ax.count(name, solved) != size:
                raise LncValueError(
                    f"{self.signature.arguments[0]}: this kernel was compiled for {name} = {size}; "
                    f"got {ax.count(name, solved)}"
                )
        if self._special.dots and solved[ax.ELLIPSIS] != self._special.dots:
            raise LncValueError(
                f"{self.signature.arguments[0]}: this kernel was compiled for ... = {self._special.dots}; "
                f"got {solved[ax.ELLIPSIS]}"
            )
